use std::time::Duration;

use tokio::time::Instant;

/// How full something bounded is, such as a pool of connections.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fill {
    /// The part that is taken, from 0 to 1.
    pub part: f64,
    /// Whether somebody waits for some of it.
    pub waited_for: bool,
}

/// How much is refused so that it does not become fuller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[expect(clippy::exhaustive_enums, reason = "callers must handle each of them")]
pub enum Strain {
    /// Nothing.
    #[default]
    None,
    /// What matters least.
    High,
    /// All that is not critical.
    Highest,
}

/// From what part on there is [`Strain`], and from what part on it is over.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PressureRules {
    /// So much, for [`patience`](Self::patience) and waited for, is high.
    pub high: f64,
    /// So much is the highest, at once.
    pub highest: f64,
    /// At so much it is over.
    pub over: f64,
    /// How long it is high before that counts.
    pub patience: Duration,
}

/// What fills up, as it was seen.
///
/// Between the part from which on there is strain and the part at which it is over
/// all stays as it is, so that something that is held near a bound does not
/// refuse and admit by turns.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pressure {
    rules: PressureRules,
    strain: Strain,
    high_since: Option<Instant>,
}

// === impl PressureRules ===

impl Default for PressureRules {
    /// 85 % for 50 ms; 95 %; over at 70 %.
    fn default() -> Self {
        Self {
            high: 0.85,
            highest: 0.95,
            over: 0.7,
            patience: Duration::from_millis(50),
        }
    }
}

impl PressureRules {
    /// Whether a calm [`Pressure`] would be calm no more.
    pub fn is_high(&self, fill: Fill) -> bool {
        fill.part >= self.high && fill.waited_for || fill.part >= self.highest
    }
}

// === impl Pressure ===

impl Pressure {
    /// Without strain.
    pub const fn new(rules: PressureRules) -> Self {
        Self {
            rules,
            strain: Strain::None,
            high_since: None,
        }
    }

    /// What follows when it is so full at `now`, and what is then known.
    pub fn on(self, now: Instant, fill: Fill) -> (Strain, Self) {
        let rules = self.rules;
        let high = fill.part >= rules.high && fill.waited_for;
        let high_since = high.then(|| self.high_since.unwrap_or(now));
        let lasts = high_since.is_some_and(|since| now - since >= rules.patience);
        let strain = match self.strain {
            _ if fill.part >= rules.highest => Strain::Highest,
            _ if fill.part <= rules.over => Strain::None,
            Strain::None if lasts => Strain::High,
            Strain::Highest if fill.part < rules.high => Strain::High,
            strain => strain,
        };
        let next = Self {
            strain,
            high_since,
            ..self
        };
        (strain, next)
    }

    /// Whether nothing is strained, and nothing was high when it was last seen.
    pub fn is_calm(&self) -> bool {
        self.strain == Strain::None && self.high_since.is_none()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fill(percent: u32) -> Fill {
        Fill {
            part: f64::from(percent) / 100.0,
            waited_for: true,
        }
    }

    /// The strain after each of these parts, 10 ms apart.
    fn strains<const N: usize>(percents: [u32; N]) -> [Strain; N] {
        let (mut pressure, mut now) = (Pressure::new(PressureRules::default()), Instant::now());
        percents.map(|percent| {
            let (strain, next) = pressure.on(now, fill(percent));
            (pressure, now) = (next, now + Duration::from_millis(10));
            strain
        })
    }

    #[test]
    fn what_is_high_for_long_enough_is_strain_until_it_is_over() {
        use Strain::{High, None};
        let percents = [85, 85, 85, 85, 85, 85, 84, 71, 70, 84];
        let expected = [None, None, None, None, None, High, High, High, None, None];
        assert_eq!(strains(percents), expected);
        // Never for long enough at a time.
        assert_eq!(strains([86, 86, 86, 84, 86, 86, 86, 84]), [None; 8]);
    }

    #[test]
    fn highest_counts_at_once_and_falls_by_steps() {
        use Strain::{High, Highest, None};
        let percents = [95, 94, 86, 84, 84, 96, 70];
        let expected = [Highest, Highest, Highest, High, High, Highest, None];
        assert_eq!(strains(percents), expected);
    }

    #[test]
    fn what_nobody_waits_for_and_what_is_no_number_is_no_strain() {
        let (pressure, now) = (Pressure::new(PressureRules::default()), Instant::now());
        for part in [0.9, f64::NAN] {
            let waited_for = part.is_nan();
            let late = now + Duration::from_secs(1);
            let (_, next) = pressure.on(now, Fill { part, waited_for });
            let (strain, _) = next.on(late, Fill { part, waited_for });
            assert_eq!(strain, Strain::None);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Strain ends only where it is over, and begins only where it is high.
        #[test]
        fn it_does_not_flap(
            readings in proptest::collection::vec((0..100_u32, 0..40_u64), 1..200),
        ) {
            let (mut pressure, mut now) = (Pressure::new(PressureRules::default()), Instant::now());
            let mut before = Strain::None;
            for (percent, pause) in readings {
                now += Duration::from_millis(pause);
                let (strain, next) = pressure.on(now, fill(percent));
                if strain > before {
                    prop_assert!(percent >= 85);
                }
                if strain == Strain::None && before != Strain::None {
                    prop_assert!(percent <= 70);
                }
                prop_assert!(percent < 95 || strain == Strain::Highest);
                prop_assert!(!pressure.is_calm() || PressureRules::default().is_high(fill(percent)) || next.is_calm());
                (pressure, before) = (next, strain);
            }
        }
    }
}
