//! Moments as plain numbers, so that they fit into an atomic.

use std::time::Duration;

use maxscale_core::clock::SteadyClock;
use tokio::time::Instant;

/// Counts microseconds from the moment it was made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticks {
    begun: Instant,
    /// Of no use if it was made while tokio's clock stood still, as in tests: then
    /// that clock alone has the time.
    cheap: Option<SteadyClock>,
}

// === impl Ticks ===

impl Ticks {
    pub(crate) fn start() -> Self {
        let begun = Instant::now();
        Self {
            begun,
            // Begun later, so that its time is never ahead.
            cheap: is_real(begun).then(SteadyClock::start),
        }
    }

    /// Now; never 0, which means "never" to whoever keeps such a number.
    #[inline]
    pub(crate) fn now(self) -> u64 {
        number(self.begun.elapsed())
    }

    /// A moment that has not passed yet, soon to come: cheaper than [`now`](Self::now)
    /// and as good for what is true until later than that.
    #[inline]
    pub(crate) fn soon(self) -> u64 {
        match self.cheap {
            Some(cheap) => number(cheap.nearly() + SteadyClock::LATE),
            None => self.now(),
        }
    }
}

/// Whether tokio's clock goes as that of the system does.
#[expect(
    clippy::disallowed_types,
    reason = "what is compared with tokio's clock has to be another one"
)]
fn is_real(tokio: Instant) -> bool {
    let system = std::time::Instant::now();
    tokio.into_std() <= system && system <= Instant::now().into_std()
}

/// In 64 bits: a process runs for less than half a million years.
#[inline]
fn number(span: Duration) -> u64 {
    span.as_secs() * 1_000_000 + u64::from(span.subsec_micros()) + 1
}

/// A span in the same unit.
pub(crate) fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn soon_has_not_passed_and_is_near() {
        let ticks = Ticks::start();
        assert!(ticks.cheap.is_some());
        for _ in 0..100_000 {
            let before = ticks.now();
            let soon = ticks.soon();
            assert!(soon >= before, "{soon} {before}");
            let late = micros(SteadyClock::LATE) + 1;
            assert!(soon <= ticks.now() + late, "{soon} {before}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn paused_clock_alone_has_the_time() {
        let ticks = Ticks::start();
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(ticks.soon(), ticks.now());
        assert_eq!(ticks.now(), 60_000_001);
    }
}
