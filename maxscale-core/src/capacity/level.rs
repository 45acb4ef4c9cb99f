//! How full counts as what: pure, without clock or task.

use super::CapacityError;

/// How full a resource counts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Level {
    /// There is room.
    Normal,
    /// Somebody should make room.
    Warning,
    /// It is about to be full.
    Critical,
}

/// From which part on a resource is what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Thresholds {
    warning: f64,
    critical: f64,
}

/// A level, and how many readings in a row speak against it.
#[derive(Clone, Copy, Debug)]
pub(super) struct State {
    level: Level,
    /// What all of them agree on.
    towards: Level,
    against: u8,
}

/// How far below its threshold a level ends.
const HYSTERESIS: f64 = 0.05;
/// How many readings in a row change a level.
const READINGS: u8 = 3;

// === impl Thresholds ===

impl Thresholds {
    pub(super) fn new(warning: f64, critical: f64) -> Result<Self, CapacityError> {
        // Written so that what is no number is refused.
        if !(warning > HYSTERESIS && warning < 1.0) {
            return Err(CapacityError::Bounds { field: "warning" });
        }
        if !(critical > warning && critical <= 1.0) {
            return Err(CapacityError::Bounds { field: "critical" });
        }
        Ok(Self { warning, critical })
    }

    /// What one reading says of a resource that counts as `level`.
    fn says(self, ratio: f64, level: Level) -> Level {
        let holds = |threshold: f64, own: Level| {
            let slack = if level >= own { HYSTERESIS } else { 0.0 };
            ratio >= threshold - slack
        };
        if holds(self.critical, Level::Critical) {
            Level::Critical
        } else if holds(self.warning, Level::Warning) {
            Level::Warning
        } else {
            Level::Normal
        }
    }
}

// === impl State ===

impl State {
    pub(super) const fn new() -> Self {
        Self {
            level: Level::Normal,
            towards: Level::Normal,
            against: 0,
        }
    }

    pub(super) const fn level(self) -> Level {
        self.level
    }

    /// Takes in one reading.
    pub(super) fn apply(&mut self, ratio: f64, thresholds: Thresholds) {
        let said = thresholds.says(ratio, self.level);
        let rises = said > self.level;
        if said == self.level {
            self.against = 0;
            return;
        }
        let goes_on = self.against > 0 && rises == (self.towards > self.level);
        self.towards = match (goes_on, rises) {
            (false, _) => said,
            (true, true) => said.min(self.towards),
            (true, false) => said.max(self.towards),
        };
        self.against = if goes_on { self.against + 1 } else { 1 };
        if self.against >= READINGS {
            self.level = self.towards;
            self.against = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn thresholds() -> Thresholds {
        Thresholds::new(0.75, 0.9).unwrap()
    }

    fn after(ratios: &[f64]) -> Level {
        let mut state = State::new();
        for &ratio in ratios {
            state.apply(ratio, thresholds());
        }
        state.level()
    }

    #[test]
    fn three_readings_in_a_row_change_the_level() {
        assert_eq!(after(&[0.75, 0.75]), Level::Normal);
        assert_eq!(after(&[0.75, 0.75, 0.75]), Level::Warning);
        assert_eq!(after(&[0.75, 0.75, 0.7, 0.75, 0.75]), Level::Normal);
        assert_eq!(after(&[0.9, 0.9, 0.9]), Level::Critical);
    }

    #[test]
    fn level_is_what_all_three_agree_on() {
        assert_eq!(after(&[0.95, 0.8, 0.95]), Level::Warning);
        assert_eq!(after(&[0.95, 0.95, 0.95, 0.1, 0.8, 0.1]), Level::Warning);
    }

    #[test]
    fn level_ends_five_points_below_its_threshold() {
        let warned = [0.8; 3];
        let then = |ratio: f64| [&warned[..], &[ratio; 3]].concat();
        assert_eq!(after(&then(0.71)), Level::Warning);
        assert_eq!(after(&then(0.69)), Level::Normal);
        let critical = |ratio: f64| [[0.95; 3], [ratio; 3]].concat();
        assert_eq!(after(&critical(0.86)), Level::Critical);
        assert_eq!(after(&critical(0.84)), Level::Warning);
        assert_eq!(after(&critical(0.5)), Level::Normal);
    }

    #[test]
    fn thresholds_that_cannot_be_are_refused_by_name() {
        let refused = |warning, critical| match Thresholds::new(warning, critical) {
            Ok(_) => None,
            Err(CapacityError::Bounds { field }) => Some(field),
        };
        assert_eq!(refused(0.75, 0.9), None);
        for warning in [0.0, 0.05, -1.0, 1.0, 75.0, f64::NAN, f64::INFINITY] {
            assert_eq!(refused(warning, 1.0), Some("warning"), "{warning}");
        }
        for critical in [0.5, 0.75, 1.01, 90.0, f64::NAN] {
            assert_eq!(refused(0.75, critical), Some("critical"), "{critical}");
        }
    }

    proptest! {
        #[test]
        fn level_never_changes_within_three_readings(
            ratios in prop::collection::vec(0.0..1.2_f64, 1..100),
        ) {
            let mut state = State::new();
            let mut since = READINGS;
            for ratio in ratios {
                let before = state.level();
                state.apply(ratio, thresholds());
                if state.level() == before {
                    since += 1;
                } else {
                    prop_assert!(since >= READINGS - 1, "after {since}");
                    since = 0;
                }
            }
        }

        #[test]
        fn level_that_was_reached_survives_noise_of_five_points(
            middle in 0.0..1.0_f64,
            noise in prop::collection::vec(-0.024..0.024_f64, 50..100),
        ) {
            let mut state = State::new();
            for noise in noise {
                let before = state.level();
                state.apply(middle + noise, thresholds());
                prop_assert!(state.level() >= before);
            }
        }
    }
}
