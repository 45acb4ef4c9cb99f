//! The time as leases see it: exact, or cheap and a little late.

use std::time::Duration;

use crate::limit::lease::Moment;

/// How late the cheap time may be: a tick of the kernel's timer, 10 ms at most, and
/// what a hypervisor takes from the processor that counts them.
const LATE: Duration = Duration::from_millis(50);

/// From when on moments are counted.
#[derive(Debug)]
pub(super) struct LeaseClock {
    #[cfg(target_os = "linux")]
    begun: Duration,
    #[cfg(not(target_os = "linux"))]
    begun: tokio::time::Instant,
}

// === impl LeaseClock ===

impl LeaseClock {
    pub(super) fn start() -> Self {
        Self {
            #[cfg(target_os = "linux")]
            begun: kernel::now(),
            #[cfg(not(target_os = "linux"))]
            begun: tokio::time::Instant::now(),
        }
    }

    pub(super) fn now(&self) -> Moment {
        #[cfg(target_os = "linux")]
        return Moment::BEGIN + kernel::now().saturating_sub(self.begun);
        #[cfg(not(target_os = "linux"))]
        return Moment::BEGIN + self.begun.elapsed();
    }

    /// The time, late by [`LATE`] at most; never early.
    #[inline]
    pub(super) fn nearly(&self) -> Moment {
        #[cfg(target_os = "linux")]
        return Moment::BEGIN + kernel::nearly().saturating_sub(self.begun);
        #[cfg(not(target_os = "linux"))]
        self.now()
    }

    /// The time for what ends at `end`: late only where that changes nothing.
    #[inline]
    pub(super) fn before(&self, end: Moment, nearly: Moment) -> Moment {
        match nearly + LATE < end {
            true => nearly,
            false => self.now(),
        }
    }
}

#[cfg(target_os = "linux")]
mod kernel {
    use std::time::Duration;

    use rustix::time::{ClockId, Timespec, clock_gettime};

    pub(super) fn now() -> Duration {
        duration(clock_gettime(ClockId::Monotonic))
    }

    /// What the kernel noted at its last tick: a third of the time.
    #[inline]
    pub(super) fn nearly() -> Duration {
        duration(clock_gettime(ClockId::MonotonicCoarse))
    }

    #[inline]
    fn duration(time: Timespec) -> Duration {
        Duration::new(
            u64::try_from(time.tv_sec).unwrap_or(0),
            u32::try_from(time.tv_nsec).unwrap_or(0),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cheap_time_is_never_early_and_what_ends_soon_has_the_exact_one() {
        let clock = LeaseClock::start();
        for _ in 0..100_000 {
            let nearly = clock.nearly();
            let exact = clock.now();
            assert!(nearly <= exact, "{nearly:?} {exact:?}");
            assert!(clock.before(nearly + LATE, nearly) >= exact);
            assert_eq!(clock.before(nearly + LATE * 2, nearly), nearly);
        }
    }
}
