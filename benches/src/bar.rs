//! A bar: what was measured, and what it has to reach. The one place that prints.

use std::fmt;

/// Where a bar is met, seen from its target.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Op {
    AtLeast,
    AtMost,
    Exactly,
}

/// One measured figure and its target.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bar {
    pub(crate) name: &'static str,
    pub(crate) measured: f64,
    pub(crate) op: Op,
    pub(crate) target: f64,
}

/// Prints lines as they come and remembers the bars that were missed.
#[derive(Debug, Default)]
pub(crate) struct Report {
    missed: Vec<&'static str>,
}

// === impl Bar ===

impl Bar {
    /// Not so for a figure that is not a number.
    fn is_met(&self) -> bool {
        match self.op {
            Op::AtLeast => self.measured >= self.target,
            Op::AtMost => self.measured <= self.target,
            // Counts, which have no fraction.
            Op::Exactly => self.measured.to_bits() == self.target.to_bits(),
        }
    }
}

impl fmt::Display for Bar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let op = match self.op {
            Op::AtLeast => ">=",
            Op::AtMost => "<=",
            Op::Exactly => "==",
        };
        write!(
            f,
            "BAR {} {:.3} {op} {}",
            self.name, self.measured, self.target
        )
    }
}

// === impl Report ===

impl Report {
    /// Prints the bar and judges it.
    pub(crate) fn bar(&mut self, bar: Bar) {
        if !bar.is_met() {
            self.missed.push(bar.name);
        }
        print(&bar);
    }

    /// Prints that a bar could not be measured, for want of a tool or a peer.
    pub(crate) fn missing(&mut self, name: &'static str) {
        self.missed.push(name);
        print(&format_args!("BAR {name} missing"));
    }

    /// Prints a line that is no bar.
    pub(crate) fn note(&mut self, line: &str) {
        print(&line);
    }

    /// The bars that were missed so far.
    pub(crate) fn missed(&self) -> &[&'static str] {
        &self.missed
    }
}

#[expect(clippy::print_stdout, reason = "the lines are what this program makes")]
fn print(line: &dyn fmt::Display) {
    println!("{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bar(measured: f64, op: Op) -> Bar {
        Bar {
            name: "shard.example",
            measured,
            op,
            target: 0.98,
        }
    }

    #[test]
    fn line_has_name_figure_operator_and_target() {
        let line = bar(0.9912, Op::AtLeast).to_string();
        assert_eq!(line, "BAR shard.example 0.991 >= 0.98");
    }

    #[test]
    fn bar_that_could_not_be_measured_is_missed() {
        let mut report = Report::default();
        report.bar(bar(0.99, Op::AtLeast));
        assert!(report.missed().is_empty());
        report.missing("shard.other");
        assert_eq!(report.missed(), ["shard.other"]);
    }

    #[test]
    fn bar_is_missed_on_the_wrong_side_of_its_target() {
        assert!(bar(0.98, Op::AtLeast).is_met() && bar(0.98, Op::AtMost).is_met());
        assert!(!bar(0.979, Op::AtLeast).is_met());
        assert!(!bar(0.981, Op::AtMost).is_met());
        assert!(bar(0.98, Op::Exactly).is_met());
        assert!(!bar(0.979, Op::Exactly).is_met() && !bar(0.981, Op::Exactly).is_met());
        assert!(!bar(f64::NAN, Op::AtLeast).is_met());
    }
}
