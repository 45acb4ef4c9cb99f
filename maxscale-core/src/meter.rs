//! Counting without slowing down what is counted.
//!
//! A [`HotCounter`] is an atomic of each thread, whose sum an observable
//! OpenTelemetry instrument reads when somebody scrapes; a [`HotHistogram`] is a
//! few atomics. The [`Meter`] is always passed in; nothing here knows who reads it. Labels are fixed when an instrument is registered, so a
//! request can never add a series.
//!
//! Readers of instruments run inside a scrape: they must not block and must not
//! register instruments.

#[cfg_attr(
    not(feature = "telemetry"),
    expect(dead_code, reason = "what only a registry of ours reads")
)]
mod histogram;
pub mod span;

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use opentelemetry::KeyValue;
use opentelemetry::metrics::{self, InstrumentProvider};

use crate::stripes::{self, STRIPES};

pub(crate) use histogram::Histograms;
#[cfg(feature = "telemetry")]
pub(crate) use histogram::{Exemplar, Family};
pub use histogram::{HotHistogram, HotHistograms};

/// Where instruments are registered: [`Metrics`](crate::telemetry::Metrics)' own,
/// or any meter of OpenTelemetry. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Meter {
    otel: metrics::Meter,
    /// Of a meter that is not ours the SDK keeps them, without exemplars.
    histograms: Option<Histograms>,
}

/// What an instrument is called, and what it counts.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    name: &'static str,
    unit: &'static str,
    description: &'static str,
}

/// One label and its value.
pub type Label<'a> = (&'static str, &'a str);

/// Label keys, named once so that every crate spells them alike.
pub mod label {
    /// The HTTP method, of a closed set.
    pub const METHOD: &str = "http.request.method";
    /// The route's template, never the path.
    pub const ROUTE: &str = "http.route";
    /// The HTTP status code.
    pub const STATUS: &str = "http.response.status_code";
    /// The gRPC method, as `package.Service/Method`.
    pub const RPC_METHOD: &str = "rpc.method";
    /// The gRPC status, as in `DEADLINE_EXCEEDED`.
    pub const RPC_STATUS: &str = "rpc.response.status_code";
    /// Which kind of remote procedure call it is.
    pub const RPC_SYSTEM: &str = "rpc.system.name";
    /// The value that stands for all values outside a closed set.
    pub const OTHER: &str = "_OTHER";
}

/// How long HTTP requests take, until the last frame of the answer's body.
pub const HTTP_SERVER_REQUEST_DURATION: Metric = Metric::new(
    "http.server.request.duration",
    "s",
    "Time from a request's head to the last frame of its answer.",
);

/// How long gRPC calls take, until the trailers of the answer.
pub const RPC_SERVER_CALL_DURATION: Metric = Metric::new(
    "rpc.server.call.duration",
    "s",
    "Time from a call's head to its answer's trailers.",
);

/// How many HTTP requests are being answered.
pub const HTTP_SERVER_ACTIVE_REQUESTS: Metric = Metric::new(
    "http.server.active_requests",
    "{request}",
    "Requests whose answer has not ended.",
);

/// Buckets for durations in seconds; they contain the bounds of our objectives.
pub const DURATION_BUCKETS: [f64; 12] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// A number that only grows. Clones count together.
#[derive(Clone, Debug)]
pub struct HotCounter(Arc<[Part; STRIPES]>);

/// What the threads of a stripe counted, on cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Part(AtomicU64);

/// A number that grows and shrinks: requests in flight, connections out.
#[derive(Clone, Debug)]
pub struct HotLevel(Arc<AtomicI64>);

/// A meter that measures nothing, for parts built without one.
pub fn nowhere() -> Meter {
    #[derive(Debug)]
    struct Nowhere;
    impl InstrumentProvider for Nowhere {}

    metrics::Meter::new(Arc::new(Nowhere)).into()
}

/// Registers a gauge that asks `read` at each scrape.
///
/// `read` lives as long as the meter's provider: let it hold a
/// [`Weak`](std::sync::Weak) of whatever must be freed earlier. `None` leaves
/// the value out.
pub fn gauge(
    meter: &Meter,
    metric: Metric,
    labels: &[Label<'_>],
    read: impl Fn() -> Option<f64> + Send + Sync + 'static,
) {
    let labels = key_values(labels);
    (meter.otel)
        .f64_observable_gauge(metric.name)
        .with_unit(metric.unit)
        .with_description(metric.description)
        .with_callback(move |observer| {
            if let Some(value) = read() {
                observer.observe(value, &labels);
            }
        })
        .build();
}

fn key_values(labels: &[Label<'_>]) -> Vec<KeyValue> {
    labels
        .iter()
        .map(|&(key, value)| KeyValue::new(key, Cow::<'static, str>::Owned(value.to_owned())))
        .collect()
}

// === impl Meter ===

impl Meter {
    #[cfg(feature = "telemetry")]
    pub(crate) fn ours(otel: metrics::Meter, histograms: Histograms) -> Self {
        Self {
            otel,
            histograms: Some(histograms),
        }
    }

    /// OpenTelemetry's meter, for instruments of other kinds.
    pub const fn otel(&self) -> &metrics::Meter {
        &self.otel
    }
}

impl From<metrics::Meter> for Meter {
    fn from(otel: metrics::Meter) -> Self {
        Self {
            otel,
            histograms: None,
        }
    }
}

// === impl Metric ===

impl Metric {
    /// A metric with a dotted lower-case name and a UCUM unit (`s`, `By`, `{row}`).
    ///
    /// Counters are named without `_total`; the exposition adds it.
    pub const fn new(name: &'static str, unit: &'static str, description: &'static str) -> Self {
        Self {
            name,
            unit,
            description,
        }
    }

    /// The dotted name.
    pub const fn name(self) -> &'static str {
        self.name
    }

    /// The unit, in UCUM's words.
    pub const fn unit(self) -> &'static str {
        self.unit
    }

    /// What it tells, in one sentence.
    pub const fn description(self) -> &'static str {
        self.description
    }
}

// === impl HotCounter ===

impl HotCounter {
    /// Registers the counter of one label set.
    ///
    /// A metric with labels is registered once per label set. Of two
    /// registrations of the same set only the later one is seen.
    pub fn register(meter: &Meter, metric: Metric, labels: &[Label<'_>]) -> Self {
        let count = Self(Arc::default());
        let (read, labels) = (count.clone(), key_values(labels));
        (meter.otel)
            .u64_observable_counter(metric.name)
            .with_unit(metric.unit)
            .with_description(metric.description)
            .with_callback(move |observer| observer.observe(read.get(), &labels))
            .build();
        count
    }

    /// Adds `n`.
    #[inline]
    pub fn add(&self, n: u64) {
        let part = &self.0[stripes::of_this_thread()];
        part.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The count so far.
    pub fn get(&self) -> u64 {
        let parts = self.0.iter();
        parts.map(|part| part.0.load(Ordering::Relaxed)).sum()
    }
}

// === impl HotLevel ===

impl HotLevel {
    /// Registers the level of one label set; see [`HotCounter::register`].
    pub fn register(meter: &Meter, metric: Metric, labels: &[Label<'_>]) -> Self {
        let level = Arc::new(AtomicI64::new(0));
        let (read, labels) = (level.clone(), key_values(labels));
        (meter.otel)
            .i64_observable_up_down_counter(metric.name)
            .with_unit(metric.unit)
            .with_description(metric.description)
            .with_callback(move |observer| observer.observe(read.load(Ordering::Relaxed), &labels))
            .build();
        Self(level)
    }

    /// Adds `n`, which may be negative.
    pub fn add(&self, n: i64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The level now.
    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_bucket_at_each_usual_objective() {
        for objective in [0.05, 0.2, 0.5] {
            assert!(DURATION_BUCKETS.contains(&objective), "{objective}");
        }
        assert!(DURATION_BUCKETS.is_sorted());
    }

    #[test]
    fn clones_count_together_without_anyone_reading() {
        let requests = Metric::new("requests", "{request}", "Requests.");
        let count = HotCounter::register(&nowhere(), requests, &[("kind", "a")]);
        count.clone().add(2);
        count.add(1);
        assert_eq!(count.get(), 3);
    }
}
