//! Durations in buckets, each bucket with a trace that fell into it.
//!
//! OpenTelemetry's SDK for Rust records no exemplars, and looks its label set up
//! at each record. A [`HotHistogram`] has its labels from the start, records with
//! a few atomic additions, and keeps of each bucket the last sampled trace, which
//! OpenMetrics can tell.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use opentelemetry::KeyValue;
use opentelemetry::metrics::Histogram;

use super::{Label, Meter, Metric, key_values};
use crate::fact::TraceContext;

/// How long something took, of one label set. Clones record together.
#[derive(Clone, Debug)]
pub struct HotHistogram(Record);

#[derive(Clone, Debug)]
enum Record {
    Own(Arc<Series>),
    /// Of a meter that is not ours.
    Otel(Histogram<f64>, Arc<[KeyValue]>),
}

/// The histograms of one metric whose kinds are made as they occur: of a closed
/// set, such as statuses. Finding one takes a lock that nobody holds for long, and
/// that is shared once its kind was seen.
#[derive(Debug)]
pub struct HotHistograms<K> {
    meter: Meter,
    metric: Metric,
    bounds: &'static [f64],
    made: RwLock<Vec<(K, HotHistogram)>>,
}

/// All histograms of one registry, by name and labels.
#[derive(Clone, Debug, Default)]
pub(crate) struct Histograms(Arc<Mutex<BTreeMap<&'static str, Family>>>);

/// The histograms of one name.
#[derive(Clone, Debug)]
pub(crate) struct Family {
    pub(crate) metric: Metric,
    pub(crate) series: BTreeMap<Labels, Arc<Series>>,
}

/// Sorted by key.
pub(crate) type Labels = Vec<(&'static str, String)>;

/// What one label set has recorded.
#[derive(Debug)]
pub(crate) struct Series {
    /// The upper bounds, in seconds, rising. One more bucket has none.
    pub(crate) bounds: &'static [f64],
    buckets: Box<[AtomicU64]>,
    nanos: AtomicU64,
    exemplars: Mutex<Box<[Option<Exemplar>]>>,
}

/// One value and the trace in which it was measured.
#[derive(Clone, Debug)]
pub(crate) struct Exemplar {
    pub(crate) trace: TraceContext,
    pub(crate) seconds: f64,
    pub(crate) at: SystemTime,
}

/// A series as it was at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    /// One per bound and one more; each without the smaller ones.
    pub(crate) counts: Vec<u64>,
    pub(crate) seconds: f64,
    pub(crate) exemplars: Vec<Option<Exemplar>>,
}

// === impl HotHistogram ===

impl HotHistogram {
    /// Registers the histogram of one label set, with these upper bounds of its
    /// buckets in seconds. `metric` has the unit `s`.
    ///
    /// A set that is registered already is gone on with. The bounds of a name are
    /// those of its first registration.
    ///
    /// Registering takes a lock; recording takes none.
    pub fn register(
        meter: &Meter,
        metric: Metric,
        bounds: &'static [f64],
        labels: &[Label<'_>],
    ) -> Self {
        if let Some(histograms) = &meter.histograms {
            return Self(Record::Own(histograms.series(metric, bounds, labels)));
        }
        let histogram = (meter.otel.f64_histogram(metric.name))
            .with_unit(metric.unit)
            .with_description(metric.description)
            .with_boundaries(bounds.to_vec())
            .build();
        Self(Record::Otel(histogram, key_values(labels).into()))
    }

    /// Records `took`. Where the caller is in a sampled trace, that is kept as the
    /// exemplar of its bucket.
    pub fn record(&self, took: Duration) {
        self.record_with(took, TraceContext::sampled);
    }

    /// Records `took`, which was measured in `trace`.
    pub fn record_in(&self, took: Duration, trace: &TraceContext) {
        self.record_with(took, || trace.is_sampled().then(|| trace.clone()));
    }

    fn record_with(&self, took: Duration, trace: impl FnOnce() -> Option<TraceContext>) {
        match &self.0 {
            Record::Own(series) => series.record(took, trace),
            Record::Otel(histogram, labels) => histogram.record(took.as_secs_f64(), labels),
        }
    }
}

// === impl HotHistograms ===

impl<K: PartialEq> HotHistograms<K> {
    /// None made yet; `metric` and `bounds` are as [`HotHistogram::register`] has them.
    pub fn new(meter: &Meter, metric: Metric, bounds: &'static [f64]) -> Self {
        Self {
            meter: meter.clone(),
            metric,
            bounds,
            made: RwLock::default(),
        }
    }

    /// The histogram of the kind `key`, whose `labels` are asked for the first time.
    pub fn of(&self, key: K, labels: impl FnOnce() -> Vec<(&'static str, String)>) -> HotHistogram {
        let made = self.made.read().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, found)) = made.iter().find(|(held, _)| *held == key) {
            return found.clone();
        }
        drop(made);
        let labels = labels();
        let labels: Vec<Label<'_>> = (labels.iter())
            .map(|(key, value)| (*key, value.as_str()))
            .collect();
        let new = HotHistogram::register(&self.meter, self.metric, self.bounds, &labels);
        let mut made = self.made.write().unwrap_or_else(PoisonError::into_inner);
        // Of two at once both made a handle of the same one.
        if !made.iter().any(|(held, _)| *held == key) {
            made.push((key, new.clone()));
        }
        new
    }
}

// === impl Histograms ===

impl Histograms {
    fn series(&self, metric: Metric, bounds: &'static [f64], labels: &[Label<'_>]) -> Arc<Series> {
        let mut sorted: Labels = (labels.iter())
            .map(|&(key, value)| (key, value.to_owned()))
            .collect();
        sorted.sort_unstable();
        let mut families = self.lock();
        let family = families.entry(metric.name).or_insert_with(|| Family {
            metric,
            series: BTreeMap::new(),
        });
        let bounds = (family.series.values().next()).map_or(bounds, |series| series.bounds);
        let series = family.series.entry(sorted);
        series.or_insert_with(|| Series::new(bounds)).clone()
    }

    /// All families, as they are registered now.
    pub(crate) fn families(&self) -> Vec<Family> {
        self.lock().values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, Family>> {
        // Nothing panics between two states of the map.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Series ===

impl Series {
    fn new(bounds: &'static [f64]) -> Arc<Self> {
        let buckets = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        let exemplars = vec![None; bounds.len() + 1].into_boxed_slice();
        Arc::new(Self {
            bounds,
            buckets,
            nanos: AtomicU64::new(0),
            exemplars: Mutex::new(exemplars),
        })
    }

    fn record(&self, took: Duration, trace: impl FnOnce() -> Option<TraceContext>) {
        let seconds = took.as_secs_f64();
        let at = self.bounds.partition_point(|bound| *bound < seconds);
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.nanos.fetch_add(nanos, Ordering::Relaxed);
        self.buckets[at].fetch_add(1, Ordering::Relaxed);
        let Some(trace) = trace() else { return };
        // Whoever comes while another one is kept, or a scrape reads, is not.
        if let Ok(mut exemplars) = self.exemplars.try_lock() {
            #[expect(
                clippy::disallowed_methods,
                reason = "told to people, and nothing is decided by it"
            )]
            let now = SystemTime::now();
            exemplars[at] = Some(Exemplar {
                trace,
                seconds,
                at: now,
            });
        }
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        let load = |bucket: &AtomicU64| bucket.load(Ordering::Relaxed);
        let exemplars = self.exemplars.lock();
        let exemplars = exemplars.unwrap_or_else(PoisonError::into_inner);
        Snapshot {
            counts: self.buckets.iter().map(load).collect(),
            seconds: Duration::from_nanos(load(&self.nanos)).as_secs_f64(),
            exemplars: exemplars.to_vec(),
        }
    }
}
