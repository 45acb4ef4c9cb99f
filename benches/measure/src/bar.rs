//! A bar: what was measured, and what it has to reach. The one place that prints.

use std::fmt;

/// Where a bar is met, seen from its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there is no fourth place")]
pub enum Op {
    /// The figure reaches the target or passes it.
    AtLeast,
    /// The figure stays at the target or below.
    AtMost,
    /// The figure is the target: for counts.
    Exactly,
}

/// One measured figure and its target.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bar<'a> {
    /// The area, a dot, and what is compared.
    pub name: &'a str,
    /// The figure.
    pub measured: f64,
    /// How the figure and the target are compared.
    pub op: Op,
    /// What has to be reached.
    pub target: f64,
}

/// Prints lines as they come and remembers the bars that were missed.
#[derive(Debug, Default)]
pub struct Report {
    missed: Vec<String>,
}

// === impl Bar ===

impl<'a> Bar<'a> {
    /// Reads a bar from its line; `None` for any other line.
    pub fn read(line: &'a str) -> Option<Self> {
        let mut words = line.strip_prefix("BAR ")?.split(' ');
        let mut word = || words.next();
        let bar = Self {
            name: word()?,
            measured: word()?.parse().ok()?,
            op: match word()? {
                ">=" => Op::AtLeast,
                "<=" => Op::AtMost,
                "==" => Op::Exactly,
                _ => return None,
            },
            target: word()?.parse().ok()?,
        };
        word().is_none().then_some(bar)
    }

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

impl fmt::Display for Bar<'_> {
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
    pub fn bar(&mut self, bar: Bar<'_>) {
        if !bar.is_met() {
            self.missed.push(bar.name.to_owned());
        }
        print(&bar);
    }

    /// Prints that a bar could not be measured, for want of a tool or a peer.
    pub fn missing(&mut self, name: &str) {
        self.missed.push(name.to_owned());
        print(&format_args!("BAR {name} missing"));
    }

    /// Prints a line that is no bar.
    pub fn note(&mut self, line: &str) {
        print(&line);
    }

    /// The bars that were missed so far.
    pub fn missed(&self) -> &[String] {
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

    fn bar(measured: f64, op: Op) -> Bar<'static> {
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
    fn bar_is_read_from_its_own_line_and_from_no_other() {
        for op in [Op::AtLeast, Op::AtMost, Op::Exactly] {
            let line = bar(0.991, op).to_string();
            assert_eq!(Bar::read(&line), Some(bar(0.991, op)));
        }
        for line in [
            "shard.example: median of 25 rounds",
            "BAR shard.example missing",
            "BAR shard.example 0.991 = 0.98",
            "BAR shard.example 0.991 >= 0.98 or so",
        ] {
            assert_eq!(Bar::read(line), None, "{line}");
        }
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
