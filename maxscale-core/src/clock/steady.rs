//! Spans of time within a process: exact, or cheap and a little late.

use std::time::Duration;

/// Counts the time since it was started, which no change of the system's time moves.
#[derive(Clone, Copy, Debug)]
pub struct SteadyClock {
    #[cfg(all(target_os = "linux", feature = "steady"))]
    begun: Duration,
    #[cfg(not(all(target_os = "linux", feature = "steady")))]
    begun: tokio::time::Instant,
}

// === impl SteadyClock ===

impl SteadyClock {
    /// How late the cheap time may be: a tick of the kernel's timer, 10 ms at most,
    /// and what a hypervisor takes from the processor that counts them.
    pub const LATE: Duration = Duration::from_millis(50);

    /// A clock that counts from now on.
    pub fn start() -> Self {
        Self {
            #[cfg(all(target_os = "linux", feature = "steady"))]
            begun: kernel::now(),
            #[cfg(not(all(target_os = "linux", feature = "steady")))]
            begun: tokio::time::Instant::now(),
        }
    }

    /// The time since the start.
    pub fn now(&self) -> Duration {
        #[cfg(all(target_os = "linux", feature = "steady"))]
        return kernel::now().saturating_sub(self.begun);
        #[cfg(not(all(target_os = "linux", feature = "steady")))]
        return self.begun.elapsed();
    }

    /// The time since the start, late by [`LATE`](Self::LATE) at most; never early.
    ///
    /// Without the feature `steady`, or on another system than Linux, it is exact
    /// and costs as much as [`now`](Self::now).
    #[inline]
    pub fn nearly(&self) -> Duration {
        #[cfg(all(target_os = "linux", feature = "steady"))]
        return kernel::nearly().saturating_sub(self.begun);
        #[cfg(not(all(target_os = "linux", feature = "steady")))]
        return self.now();
    }
}

#[cfg(all(target_os = "linux", feature = "steady"))]
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
    fn cheap_time_is_never_early_and_not_late_by_more_than_it_says() {
        let clock = SteadyClock::start();
        for _ in 0..100_000 {
            let before = clock.now();
            let nearly = clock.nearly();
            assert!(nearly <= clock.now(), "{nearly:?}");
            assert!(
                before <= nearly + SteadyClock::LATE,
                "{nearly:?} {before:?}"
            );
        }
    }
}
