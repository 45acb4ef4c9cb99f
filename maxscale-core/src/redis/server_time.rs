use std::sync::atomic::{AtomicI64, Ordering};

use tokio::time::Instant;

/// The server's clock, read off its answers to TIME.
///
/// It tells the earliest time that the server's clock can show at a moment of
/// ours, so that a deadline in the server's time never lies after ours. A
/// server whose clock is set back is believed from the next answer on.
#[derive(Debug)]
pub(super) struct ServerTime {
    base: Instant,
    /// The server's microseconds at `base`, at the least.
    at_base: AtomicI64,
}

// === impl ServerTime ===

impl ServerTime {
    /// From the answer `micros` to a question asked at `asked` and answered by now.
    pub(super) fn new(asked: Instant, answered: Instant, micros: i64) -> Self {
        let time = Self {
            base: asked,
            at_base: AtomicI64::new(i64::MIN),
        };
        time.learn(asked, answered, micros);
        time
    }

    /// Takes in another answer.
    pub(super) fn learn(&self, asked: Instant, answered: Instant, micros: i64) {
        // The server read its clock somewhere between question and answer.
        let least = micros.saturating_sub(self.since_base(answered));
        let most = micros.saturating_sub(self.since_base(asked));
        let known = self.at_base.load(Ordering::Relaxed);
        // Outside of these bounds the clock was set.
        if !(least..=most).contains(&known) {
            self.at_base.store(least, Ordering::Relaxed);
        }
    }

    /// What the server's clock shows at `moment`, at the least.
    pub(super) fn at(&self, moment: Instant) -> i64 {
        let at_base = self.at_base.load(Ordering::Relaxed);
        at_base.saturating_add(self.since_base(moment))
    }

    fn since_base(&self, moment: Instant) -> i64 {
        let micros = moment.saturating_duration_since(self.base).as_micros();
        i64::try_from(micros).unwrap_or(i64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn deadline_is_never_after_ours_and_as_exact_as_the_quickest_answer() {
        let start = Instant::now();
        // The server is 5 s ahead; the question travels 1 ms, the answer 9 ms.
        let time = ServerTime::new(start, start + 10 * MS, 5_001_000);
        assert_eq!(time.at(start + 10 * MS), 5_001_000, "9 ms too early");
        time.learn(start + 20 * MS, start + 22 * MS, 5_021_000);
        assert_eq!(time.at(start + 20 * MS), 5_019_000, "1 ms too early");
        // A slow answer takes nothing back.
        time.learn(start + 30 * MS, start + 80 * MS, 5_031_000);
        assert_eq!(time.at(start + 30 * MS), 5_029_000);
    }

    #[test]
    fn clock_that_was_set_is_followed() {
        let start = Instant::now();
        let time = ServerTime::new(start, start + 2 * MS, 5_001_000);
        time.learn(start + 10 * MS, start + 12 * MS, 1_011_000);
        assert!((1_009_000..=1_010_000).contains(&time.at(start + 10 * MS)));
        time.learn(start + 20 * MS, start + 22 * MS, 9_021_000);
        assert!((9_019_000..=9_020_000).contains(&time.at(start + 20 * MS)));
    }
}
