use std::time::Duration;

use tokio::time::Instant;

/// Waits between attempts that double up to a cap, with jitter.
///
/// Half of each wait is drawn ("equal jitter" of the AWS Architecture Blog,
/// *Exponential Backoff And Jitter*, 2015): callers spread, and none retries at
/// once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    base: Duration,
    cap: Duration,
}

/// Attempts at one thing: how many failed, and when to give up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Retries {
    backoff: Backoff,
    failed: u32,
    end: Option<Instant>,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(
    clippy::exhaustive_enums,
    reason = "an attempt ends in one of two ways"
)]
pub enum Attempt {
    /// It may be made again.
    Failed {
        /// A draw between 0 and 1.
        random: f64,
    },
    /// The next failure is the first again.
    Succeeded,
}

/// What to do after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "callers must handle each answer")]
pub enum Retry {
    /// Wait so long, then try again.
    After(Duration),
    /// The last attempt was made.
    GiveUp,
    /// There is nothing to try again.
    Done,
}

// === impl Backoff ===

impl Backoff {
    /// Starts at `base` and never waits longer than `cap`.
    pub const fn new(base: Duration, cap: Duration) -> Self {
        Self { base, cap }
    }

    /// The wait before attempt `attempt + 1`, where `attempt` counts from 1.
    ///
    /// `random` is a draw between 0 and 1; the wait lies between half the
    /// doubled wait and the whole of it, so that no retry follows at once.
    pub fn wait(&self, attempt: u32, random: f64) -> Duration {
        let full = self.full(attempt);
        let half = full / 2;
        // What halving has cut off is part of the whole wait.
        (full - half)
            .saturating_add(half.mul_f64(draw(random)))
            .min(full)
    }

    /// As [`wait`](Self::wait), anywhere between none and the whole doubled wait
    /// ("full jitter"): for callers who are so many that they must spread, and
    /// whose number of attempts is bounded otherwise.
    pub fn any_part(&self, attempt: u32, random: f64) -> Duration {
        let full = self.full(attempt);
        // The whole may be too long to be multiplied.
        let half = (full / 2).mul_f64(draw(random));
        half.saturating_mul(2).min(full)
    }

    fn full(&self, attempt: u32) -> Duration {
        let doublings = attempt.saturating_sub(1).min(31);
        self.base.saturating_mul(1 << doublings).min(self.cap)
    }
}

/// What is no draw counts as the highest.
pub(super) const fn draw(random: f64) -> f64 {
    if random.is_nan() {
        1.0
    } else {
        random.clamp(0.0, 1.0)
    }
}

// === impl Retries ===

impl Retries {
    /// No attempt was made yet, and none will be the last.
    pub const fn new(backoff: Backoff) -> Self {
        Self {
            backoff,
            failed: 0,
            end: None,
        }
    }

    /// Makes the last attempt at `end`.
    pub const fn until(mut self, end: Instant) -> Self {
        self.end = Some(end);
        self
    }

    /// What to do after an attempt that ended at `now`, and what is then known.
    pub fn after(self, now: Instant, attempt: Attempt) -> (Retry, Self) {
        let Attempt::Failed { random } = attempt else {
            return (Retry::Done, Self { failed: 0, ..self });
        };
        let failed = self.failed.saturating_add(1);
        let wait = self.backoff.wait(failed, random);
        let retry = match self.end.map(|end| end.saturating_duration_since(now)) {
            Some(Duration::ZERO) => Retry::GiveUp,
            Some(left) => Retry::After(wait.min(left)),
            None => Retry::After(wait),
        };
        (retry, Self { failed, ..self })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn waits_double_up_to_the_cap() {
        let backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(10));
        let waits = [1, 2, 3, 4, 5, 99].map(|n| backoff.wait(n, 1.0).as_secs());
        assert_eq!(waits, [1, 2, 4, 8, 10, 10]);
        assert_eq!(backoff.wait(3, 0.0), Duration::from_secs(2));
        // What is no draw must not make it panic.
        assert_eq!(backoff.wait(3, f64::NAN), Duration::from_secs(4));
    }

    fn spans() -> impl Strategy<Value = Duration> {
        let edges = [Duration::ZERO, Duration::from_nanos(1), Duration::MAX];
        prop_oneof![
            (0..10_000_000_u64).prop_map(Duration::from_micros),
            proptest::sample::select(edges.to_vec()),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn wait_is_within_the_cap_and_grows_with_attempt_and_draw(
            base in spans(),
            cap in spans(),
            attempt: u32,
            random: f64,
        ) {
            let backoff = Backoff::new(base, cap);
            let wait = backoff.wait(attempt, random);
            prop_assert!(wait <= cap);
            prop_assert!(wait >= base.min(cap) / 2);
            prop_assert!(backoff.wait(attempt.saturating_add(1), random) >= wait);
            prop_assert!(backoff.wait(attempt, 0.0) <= wait);
            prop_assert!(wait <= backoff.wait(attempt, 1.0));
            let part = backoff.any_part(attempt, random);
            prop_assert!(part <= backoff.wait(attempt, 1.0));
            prop_assert!(part >= backoff.any_part(attempt, 0.0));
            prop_assert_eq!(backoff.any_part(attempt, 0.0), Duration::ZERO);
            // As exact as a fraction of it can be.
            let (whole, full) = (backoff.any_part(attempt, 1.0), backoff.wait(attempt, 1.0));
            prop_assert!(full - whole <= full / 1_000_000_000 + Duration::from_nanos(1));
        }

        #[test]
        fn last_attempt_is_made_at_the_end(
            base in spans(),
            cap in spans(),
            limit in 0..100_000_000_u64,
            draws in proptest::collection::vec(0.0..=1.0_f64, 1..40),
        ) {
            let start = Instant::now();
            let end = start + Duration::from_micros(limit);
            let backoff = Backoff::new(base, cap);
            let (mut retries, mut now) = (Retries::new(backoff).until(end), start);
            for (n, random) in (1..).zip(draws) {
                let (retry, next) = retries.after(now, Attempt::Failed { random });
                let wait = backoff.wait(n, random);
                match retry {
                    Retry::After(told) => {
                        prop_assert_eq!(told, wait.min(end - now));
                        now += told;
                    }
                    Retry::GiveUp => {
                        prop_assert_eq!(now, end);
                        return Ok(());
                    }
                    Retry::Done => prop_assert!(false, "it failed"),
                }
                retries = next;
            }
            // A success forgets all of them.
            let (retry, fresh) = retries.after(now, Attempt::Succeeded);
            prop_assert_eq!((retry, fresh), (Retry::Done, Retries::new(backoff).until(end)));
        }
    }
}
