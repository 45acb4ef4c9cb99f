//! Prometheus' text format 0.0.4, from what the instruments collected.
//!
//! Names follow OpenTelemetry's rules for Prometheus: dots become underscores,
//! the unit is a suffix, a monotonic sum ends in `_total`. Families and series
//! are sorted, so that two scrapes differ only in values. A family that two
//! scopes declare with different types, and a series that two scopes report,
//! keep the first: Prometheus would refuse the whole page otherwise.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use opentelemetry::KeyValue;
use opentelemetry_sdk::metrics::data::{
    AggregatedMetrics, Histogram, Metric, MetricData, ResourceMetrics,
};

/// One `# TYPE` block.
#[derive(Debug)]
struct Family<'a> {
    help: &'a str,
    kind: Kind,
    /// Label text to sample lines.
    series: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// The page for everything in `collected`.
pub(super) fn encode(collected: &ResourceMetrics) -> String {
    let mut families = BTreeMap::<String, Family<'_>>::new();
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

    let mut page = String::new();
    for (name, family) in &families {
        let _ = writeln!(page, "# HELP {name} {}", escaped(family.help, false));
        let _ = writeln!(page, "# TYPE {name} {}", family.kind);
        page.extend(family.series.values().map(String::as_str));
    }
    page
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
    let family = families.entry(name.clone()).or_insert(Family {
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
                family.sample(&name, labels(point.attributes()), float(point.value()));
            }
        }
        MetricData::Sum(sum) => {
            for point in sum.data_points() {
                family.sample(&name, labels(point.attributes()), float(point.value()));
            }
        }
        MetricData::Histogram(histogram) => family.histogram(&name, histogram, float),
        MetricData::ExponentialHistogram(_) => {}
    }
}

// === impl Family ===

impl Family<'_> {
    fn sample(&mut self, name: &str, labels: String, value: f64) {
        let line = format!("{name}{} {}\n", braced(&labels), value);
        self.series.entry(labels).or_insert(line);
    }

    fn histogram<T: Copy>(
        &mut self,
        name: &str,
        histogram: &Histogram<T>,
        float: impl Fn(T) -> f64,
    ) {
        for point in histogram.data_points() {
            let labels = labels(point.attributes());
            let comma = if labels.is_empty() { "" } else { "," };
            let mut lines = String::new();
            let mut below = 0;
            // The format's buckets include all smaller ones; the last has no bound.
            let bounds = point.bounds().map(|bound| bound.to_string());
            let bounds = bounds.chain(["+Inf".to_owned()]);
            for (bound, count) in bounds.zip(point.bucket_counts()) {
                below += count;
                let _ = writeln!(
                    lines,
                    "{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {below}"
                );
            }
            let braced = braced(&labels);
            let _ = writeln!(lines, "{name}_sum{braced} {}", float(point.sum()));
            let _ = writeln!(lines, "{name}_count{braced} {}", point.count());
            self.series.entry(labels).or_insert(lines);
        }
    }
}

// === impl Kind ===

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        })
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
    if kind == Kind::Counter && name.ends_with("_total") {
        name.truncate(name.len() - "_total".len());
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
fn labels<'a>(attributes: impl Iterator<Item = &'a KeyValue>) -> String {
    let mut values = BTreeMap::<String, String>::new();
    for attribute in attributes {
        let value = attribute.value.as_str().into_owned();
        values
            .entry(sanitized(attribute.key.as_str(), false))
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

fn braced(labels: &str) -> String {
    if labels.is_empty() {
        String::new()
    } else {
        format!("{{{labels}}}")
    }
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
