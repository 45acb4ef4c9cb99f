use std::time::Duration;

use super::Backoff;

/// When a call that failed is made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Again {
    /// How often it is made at most, the first time counted.
    pub attempts: u32,
    /// The waits between attempts, of which any part is drawn.
    pub backoff: Backoff,
    /// Who asks for a longer wait is not asked again.
    pub longest_wait: Duration,
}

/// A call that failed, as [`Again`] sees it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FailedCall {
    /// How often it was made.
    pub made: u32,
    /// What whoever was called says of another attempt.
    pub pushback: Option<Pushback>,
    /// The time that is left for it, if that is bounded.
    pub left: Option<Duration>,
    /// A draw between 0 and 1.
    pub random: f64,
}

/// What whoever was called says of another attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "callers must handle each answer")]
pub enum Pushback {
    /// Not before.
    After(Duration),
    /// Not at all.
    Never,
}

/// Why a call is not made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "callers must handle each of them")]
pub enum Declined {
    /// It was made often enough.
    Attempts,
    /// Whoever was called does not want it, or only after too long a time.
    Pushback,
    /// There would be no time left for it.
    Deadline,
}

// === impl Again ===

impl Again {
    /// How long to wait before `call` is made again.
    ///
    /// # Errors
    ///
    /// Returns the reason if it is not to be made again.
    pub fn wait(&self, call: FailedCall) -> Result<Duration, Declined> {
        if call.made >= self.attempts {
            return Err(Declined::Attempts);
        }
        let drawn = self.backoff.any_part(call.made, call.random);
        let wait = match call.pushback {
            Some(Pushback::Never) => return Err(Declined::Pushback),
            Some(Pushback::After(asked)) if asked > self.longest_wait => {
                return Err(Declined::Pushback);
            }
            // The draw is added: all who were told the same would come at once.
            Some(Pushback::After(asked)) => asked.saturating_add(drawn),
            None => drawn,
        };
        match call.left {
            Some(left) if wait >= left => Err(Declined::Deadline),
            _ => Ok(wait),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn spans(most: u64) -> impl Strategy<Value = Duration> {
        (0..most).prop_map(Duration::from_millis)
    }

    fn pushbacks() -> impl Strategy<Value = Option<Pushback>> {
        prop_oneof![
            Just(None),
            Just(Some(Pushback::Never)),
            spans(20_000).prop_map(|wait| Some(Pushback::After(wait))),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn wait_is_what_was_asked_for_or_drawn_and_ends_in_time(
            attempts in 0..6_u32,
            made in 1..6_u32,
            pushback in pushbacks(),
            left in proptest::option::of(spans(20_000)),
            random in 0.0..=1.0_f64,
        ) {
            let again = Again {
                attempts,
                backoff: Backoff::new(Duration::from_millis(50), Duration::from_secs(2)),
                longest_wait: Duration::from_secs(10),
            };
            let drawn = Duration::from_millis(50 << (made - 1)).min(Duration::from_secs(2));
            match again.wait(FailedCall { made, pushback, left, random }) {
                Ok(wait) => {
                    prop_assert!(made < attempts);
                    prop_assert!(left.is_none_or(|left| wait < left));
                    let asked = match pushback {
                        None => Duration::ZERO,
                        Some(Pushback::After(asked)) => asked,
                        Some(Pushback::Never) => Duration::MAX,
                    };
                    prop_assert!(asked <= again.longest_wait);
                    prop_assert!(wait >= asked && wait <= asked + drawn);
                }
                Err(Declined::Attempts) => prop_assert!(made >= attempts),
                Err(Declined::Pushback) => match pushback {
                    Some(Pushback::After(asked)) => prop_assert!(asked > again.longest_wait),
                    other => prop_assert_eq!(other, Some(Pushback::Never)),
                },
                Err(Declined::Deadline) => prop_assert!(left.is_some()),
            }
        }
    }
}
