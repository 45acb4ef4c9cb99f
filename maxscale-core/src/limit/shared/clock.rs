//! The time as what holds for a moment sees it: exact, or cheap and a little late.

use crate::clock::SteadyClock;
use crate::limit::lease::Moment;

/// From when on moments are counted.
#[derive(Debug)]
pub(super) struct CoarseClock(SteadyClock);

// === impl CoarseClock ===

impl CoarseClock {
    pub(super) fn start() -> Self {
        Self(SteadyClock::start())
    }

    pub(super) fn now(&self) -> Moment {
        Moment::BEGIN + self.0.now()
    }

    /// The time, late by [`SteadyClock::LATE`] at most; never early.
    #[inline]
    pub(super) fn nearly(&self) -> Moment {
        Moment::BEGIN + self.0.nearly()
    }

    /// The time for what ends at `end`: late only where that changes nothing.
    #[inline]
    pub(super) fn before(&self, end: Moment, nearly: Moment) -> Moment {
        match nearly + SteadyClock::LATE < end {
            true => nearly,
            false => self.now(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cheap_time_is_never_early_and_what_ends_soon_has_the_exact_one() {
        let (clock, late) = (CoarseClock::start(), SteadyClock::LATE);
        for _ in 0..100_000 {
            let nearly = clock.nearly();
            let exact = clock.now();
            assert!(nearly <= exact, "{nearly:?} {exact:?}");
            assert!(clock.before(nearly + late, nearly) >= exact);
            assert_eq!(clock.before(nearly + late * 2, nearly), nearly);
        }
    }
}
