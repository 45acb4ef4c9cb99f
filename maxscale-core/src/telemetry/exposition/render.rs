//! The two text forms of the same samples.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::time::UNIX_EPOCH;

use super::{Exposition, Family, Kind, Sample, escaped};
use crate::meter::Exemplar;

// Writing to a text cannot fail.
pub(super) fn page(families: &BTreeMap<String, Family<'_>>, format: Exposition) -> String {
    let mut page = String::new();
    let mut declared = "";
    for (name, family) in families {
        let open = format == Exposition::OpenMetrics;
        let base = match family.kind {
            Kind::Counter if open => name.strip_suffix("_total").unwrap_or(name),
            _ => name,
        };
        if open && base == declared {
            // OpenMetrics cannot tell the counter `a_total` from the gauge `a`.
            continue;
        }
        declared = base;
        let help = escaped(family.help, open);
        if open {
            let _ = writeln!(page, "# TYPE {base} {}", family.kind);
            let _ = writeln!(page, "# HELP {base} {help}");
        } else {
            let _ = writeln!(page, "# HELP {base} {help}");
            let _ = writeln!(page, "# TYPE {base} {}", family.kind);
        }
        for (labels, sample) in &family.series {
            match sample {
                Sample::Value(value) => {
                    let _ = writeln!(page, "{name}{} {value}", braced(labels));
                }
                buckets @ Sample::Buckets { .. } => {
                    histogram(&mut page, name, labels, buckets, open)
                }
            }
        }
    }
    if format == Exposition::OpenMetrics {
        page.push_str("# EOF\n");
    }
    page
}

fn histogram(page: &mut String, name: &str, labels: &str, sample: &Sample, open: bool) {
    let Sample::Buckets {
        bounds,
        counts,
        sum,
        exemplars,
    } = sample
    else {
        return;
    };
    let comma = if labels.is_empty() { "" } else { "," };
    let mut below = 0;
    // The formats' buckets include all smaller ones; the last has no bound.
    for (at, count) in counts.iter().enumerate() {
        below += count;
        let _ = write!(page, "{name}_bucket{{{labels}{comma}le=\"");
        let _ = match bounds.get(at) {
            // OpenMetrics wants to see that it is a float.
            Some(bound) if open => write!(page, "{bound:?}"),
            Some(bound) => write!(page, "{bound}"),
            None => write!(page, "+Inf"),
        };
        let _ = write!(page, "\"}} {below}");
        if let (true, Some(Some(exemplar))) = (open, exemplars.get(at)) {
            let _ = write!(page, " {exemplar}");
        }
        page.push('\n');
    }
    let braced = braced(labels);
    let _ = writeln!(page, "{name}_sum{braced} {sum}");
    let _ = writeln!(page, "{name}_count{braced} {below}");
}

fn braced(labels: &str) -> String {
    if labels.is_empty() {
        String::new()
    } else {
        format!("{{{labels}}}")
    }
}

// === impl Exemplar ===

impl fmt::Display for Exemplar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.at.duration_since(UNIX_EPOCH).unwrap_or_default();
        write!(
            f,
            "# {{trace_id=\"{}\",span_id=\"{}\"}} {} {}.{:03}",
            self.trace.trace_id(),
            self.trace.span_id(),
            self.seconds,
            at.as_secs(),
            at.subsec_millis(),
        )
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
