use std::time::Duration;

/// Waits between attempts that double up to a cap, with full jitter.
///
/// "Full jitter" as in the AWS Architecture Blog, *Exponential Backoff And
/// Jitter* (2015): uniform between a floor and the doubled wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    base: Duration,
    cap: Duration,
}

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
        let doublings = attempt.saturating_sub(1).min(31);
        let full = self.base.saturating_mul(1 << doublings).min(self.cap);
        full.mul_f64(0.5 + 0.5 * random.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_cap() {
        let backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(10));
        let waits = [1, 2, 3, 4, 5, 99].map(|n| backoff.wait(n, 1.0).as_secs());
        assert_eq!(waits, [1, 2, 4, 8, 10, 10]);
        assert_eq!(backoff.wait(3, 0.0), Duration::from_secs(2));
    }
}
