/// What became of the calls of some time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All that counts.
    pub calls: u64,
    /// Those of them that failed.
    pub failed: u64,
    /// Those of them that took long.
    pub slow: u64,
}

/// How many of all calls may fail or take long.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    min_calls: u64,
    failed: Option<f64>,
    slow: Option<f64>,
}

/// Which rate is over its bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "callers must handle each of them")]
pub enum Exceeded {
    /// Too many failed.
    Failed,
    /// Too many took long.
    Slow,
}

// === impl Rates ===

impl Rates {
    /// No bound; of fewer than `min_calls` calls, and of none, nothing is concluded.
    pub const fn new(min_calls: u64) -> Self {
        Self {
            min_calls,
            failed: None,
            slow: None,
        }
    }

    /// Bounds the part that fails, from 0 to 1: at so much it is exceeded.
    #[must_use]
    pub const fn failed(self, part: f64) -> Self {
        Self {
            failed: Some(part),
            ..self
        }
    }

    /// Bounds the part that takes long, from 0 to 1: at so much it is exceeded.
    #[must_use]
    pub const fn slow(self, part: f64) -> Self {
        Self {
            slow: Some(part),
            ..self
        }
    }

    /// Which bound `counts` are over, if any.
    pub fn exceeded(&self, counts: Counts) -> Option<Exceeded> {
        if counts.calls < self.min_calls.max(1) {
            return None;
        }
        let over = |part: u64, bound: Option<f64>| {
            bound.is_some_and(|bound| part > 0 && ratio(part, counts.calls) >= bound)
        };
        if over(counts.failed, self.failed) {
            Some(Exceeded::Failed)
        } else if over(counts.slow, self.slow) {
            Some(Exceeded::Slow)
        } else {
            None
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "the last of 53 bits does not matter to a rate"
)]
fn ratio(part: u64, of: u64) -> f64 {
    part as f64 / of as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn counts(calls: u64, failed: u64, slow: u64) -> Counts {
        Counts {
            calls,
            failed,
            slow,
        }
    }

    #[test]
    fn bound_is_exceeded_when_it_is_reached_and_not_of_few_calls() {
        let rates = Rates::new(20).failed(0.5).slow(0.8);
        assert_eq!(rates.exceeded(counts(19, 19, 19)), None);
        assert_eq!(rates.exceeded(counts(20, 9, 15)), None);
        assert_eq!(rates.exceeded(counts(20, 10, 0)), Some(Exceeded::Failed));
        assert_eq!(rates.exceeded(counts(20, 0, 16)), Some(Exceeded::Slow));
        assert_eq!(Rates::new(0).exceeded(counts(9, 9, 9)), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn more_failures_never_bring_it_back_below_a_bound(
            calls in 0..1_000_u64,
            failed in 0..1_000_u64,
            more in 0..1_000_u64,
            min in 0..100_u64,
            bound in 0.0..=1.0_f64,
        ) {
            let rates = Rates::new(min).failed(bound);
            let before = rates.exceeded(counts(calls, failed.min(calls), 0));
            let after = rates.exceeded(counts(calls, (failed + more).min(calls), 0));
            prop_assert!(before.is_none() || after.is_some());
            prop_assert!(after.is_none() || calls >= min.max(1));
            // None failed: no bound is too low for that.
            prop_assert_eq!(rates.exceeded(counts(calls, 0, 0)), None);
        }
    }
}
