//! What Prometheus reads, from what the instruments collected.
//!
//! Names follow OpenTelemetry's rules for Prometheus: dots become underscores,
//! the unit is a suffix, a monotonic sum ends in `_total`, and a level that is
//! called `thing.count` is told as `things`. Families and series
//! are sorted, so that two scrapes differ only in values. A family that two
//! scopes declare with different types, and a series that two scopes report,
//! keep the first: Prometheus would refuse the whole page otherwise.

mod render;

use std::borrow::Cow;
use std::collections::BTreeMap;

use opentelemetry::KeyValue;
use opentelemetry_sdk::metrics::data::{
    AggregatedMetrics, Histogram, Metric, MetricData, ResourceMetrics,
};

use crate::meter::{Exemplar, Family as Histograms};

/// A format that Prometheus reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Exposition {
    /// The text format 0.0.4, which everything reads.
    #[default]
    Text,
    /// OpenMetrics 1.0.0, which carries exemplars.
    OpenMetrics,
}

/// One `# TYPE` block.
#[derive(Debug)]
struct Family<'a> {
    help: &'a str,
    kind: Kind,
    /// By label text.
    series: BTreeMap<String, Sample>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

#[derive(Debug)]
enum Sample {
    Value(f64),
    Buckets {
        bounds: Vec<f64>,
        /// One per bound and one more; each without the smaller ones.
        counts: Vec<u64>,
        sum: f64,
        exemplars: Vec<Option<Exemplar>>,
    },
}

/// The page for everything that was collected.
pub(super) fn encode(
    collected: &ResourceMetrics,
    histograms: &[Histograms],
    format: Exposition,
) -> String {
    let mut families = BTreeMap::<String, Family<'_>>::new();
    for ours in histograms {
        add_ours(&mut families, ours);
    }
    let mut scopes: Vec<_> = collected.scope_metrics().collect();
    scopes.sort_by(|a, b| a.scope().name().cmp(b.scope().name()));
    for metric in scopes.iter().flat_map(|scope| scope.metrics()) {
        match metric.data() {
            AggregatedMetrics::F64(data) => add(&mut families, metric, data, |v| v),
            #[expect(clippy::cast_precision_loss, reason = "Prometheus has only floats")]
            AggregatedMetrics::U64(data) => add(&mut families, metric, data, |v| v as f64),
            #[expect(clippy::cast_precision_loss, reason = "Prometheus has only floats")]
            AggregatedMetrics::I64(data) => add(&mut families, metric, data, |v| v as f64),
        }
    }
    render::page(&families, format)
}

fn add_ours<'a>(families: &mut BTreeMap<String, Family<'a>>, ours: &Histograms) {
    let metric = ours.metric;
    let name = family_name(metric.name(), metric.unit(), Kind::Histogram);
    let family = families.entry(name).or_insert(Family {
        help: metric.description(),
        kind: Kind::Histogram,
        series: BTreeMap::new(),
    });
    for (labels, series) in &ours.series {
        let now = series.snapshot();
        let sample = Sample::Buckets {
            bounds: series.bounds.to_vec(),
            counts: now.counts,
            sum: now.seconds,
            exemplars: now.exemplars,
        };
        let labels = label_text(labels.iter().map(|(key, value)| (*key, value.clone())));
        family.series.entry(labels).or_insert(sample);
    }
}

fn add<'a, T: Copy>(
    families: &mut BTreeMap<String, Family<'a>>,
    metric: &'a Metric,
    data: &MetricData<T>,
    float: impl Fn(T) -> f64,
) {
    let kind = match data {
        MetricData::Sum(sum) if sum.is_monotonic() => Kind::Counter,
        MetricData::Sum(_) | MetricData::Gauge(_) => Kind::Gauge,
        MetricData::Histogram(_) => Kind::Histogram,
        // The text format cannot say it, and nothing of ours records one.
        MetricData::ExponentialHistogram(_) => return,
    };
    let name = family_name(metric.name(), metric.unit(), kind);
    let family = families.entry(name).or_insert(Family {
        help: metric.description(),
        kind,
        series: BTreeMap::new(),
    });
    if family.kind != kind {
        return;
    }
    match data {
        MetricData::Gauge(gauge) => {
            for point in gauge.data_points() {
                family.add(point.attributes(), Sample::Value(float(point.value())));
            }
        }
        MetricData::Sum(sum) => {
            for point in sum.data_points() {
                family.add(point.attributes(), Sample::Value(float(point.value())));
            }
        }
        MetricData::Histogram(histogram) => family.add_histogram(histogram, float),
        MetricData::ExponentialHistogram(_) => {}
    }
}

// === impl Exposition ===

impl Exposition {
    /// The value of `Content-Type`.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// What an `Accept` header asks for: of the two the one that weighs more, and
    /// the text format where it does not say.
    pub fn accepted(accept: &str) -> Self {
        let (mut open, mut text) = (0.0, 0.0);
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default();
            let weight = parts.find_map(|part| part.strip_prefix("q="));
            let weight: f64 = weight.map_or(1.0, |weight| weight.parse().unwrap_or(0.0));
            if media.eq_ignore_ascii_case("application/openmetrics-text") {
                open = weight.max(open);
            } else if ["text/plain", "text/*", "*/*"].contains(&media) {
                text = weight.max(text);
            }
        }
        if open > 0.0 && open >= text {
            Self::OpenMetrics
        } else {
            Self::Text
        }
    }
}

// === impl Family ===

impl Family<'_> {
    fn add<'k>(&mut self, attributes: impl Iterator<Item = &'k KeyValue>, sample: Sample) {
        let pairs = attributes.map(|kv| (kv.key.as_str(), kv.value.as_str().into_owned()));
        self.series.entry(label_text(pairs)).or_insert(sample);
    }

    fn add_histogram<T: Copy>(&mut self, histogram: &Histogram<T>, float: impl Fn(T) -> f64) {
        for point in histogram.data_points() {
            let sample = Sample::Buckets {
                bounds: point.bounds().collect(),
                counts: point.bucket_counts().collect(),
                sum: float(point.sum()),
                exemplars: Vec::new(),
            };
            self.add(point.attributes(), sample);
        }
    }
}

fn family_name(name: &str, unit: &str, kind: Kind) -> String {
    let mut name = sanitized(name, true);
    let suffix = match unit {
        "s" => "seconds",
        "ms" => "milliseconds",
        "us" => "microseconds",
        "By" => "bytes",
        "1" if kind == Kind::Gauge => "ratio",
        // Annotations such as `{request}` and units without a word of their own.
        _ => "",
    };
    match kind {
        Kind::Counter if name.ends_with("_total") => name.truncate(name.len() - "_total".len()),
        // How many there are, which the format would take for a histogram's count.
        Kind::Gauge if name.ends_with("_count") => {
            name.truncate(name.len() - "_count".len());
            name.push('s');
        }
        Kind::Counter | Kind::Gauge | Kind::Histogram => {}
    }
    if !suffix.is_empty() && !name.ends_with(suffix) {
        name.push('_');
        name.push_str(suffix);
    }
    if kind == Kind::Counter {
        name.push_str("_total");
    }
    name
}

/// `key="value"` pairs, sorted by key and joined by commas.
fn label_text<'k>(pairs: impl Iterator<Item = (&'k str, String)>) -> String {
    let mut values = BTreeMap::<String, String>::new();
    for (key, value) in pairs {
        values
            .entry(sanitized(key, false))
            // Two keys that the format cannot tell apart share one label.
            .and_modify(|held| *held = format!("{held};{value}"))
            .or_insert(value);
    }
    let pairs: Vec<_> = values
        .iter()
        .map(|(key, value)| format!("{key}=\"{}\"", escaped(value, true)))
        .collect();
    pairs.join(",")
}

fn sanitized(name: &str, colons: bool) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || (colons && c == ':');
    let mut out: String = name
        .chars()
        .map(|c| if fits(c) { c } else { '_' })
        .collect();
    if out.starts_with(|c: char| c.is_ascii_digit()) {
        out.insert(0, '_');
    }
    out
}

fn escaped(text: &str, quoted: bool) -> Cow<'_, str> {
    let special = |c: char| c == '\\' || c == '\n' || (quoted && c == '"');
    if !text.contains(special) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            c if special(c) => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests;
