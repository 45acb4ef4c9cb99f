//! What became of the calls of the last seconds, counted without a lock.

use std::array;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::control::Counts;
use crate::stripes::{self, STRIPES};

/// A window is so many buckets long, and forgets a bucket at a time.
pub(super) const BUCKETS: usize = 10;

/// A ring of buckets of equal time.
///
/// A bucket knows the tick of the clock that it counts for, in the same word as
/// the count, so that whoever comes first in a new tick begins it anew and no
/// task has to sweep.
#[derive(Debug)]
pub(super) struct Window {
    tick: Duration,
    /// Of these there are many: each thread has its own.
    calls: [Stripe; STRIPES],
    failed: Ring,
    slow: Ring,
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct Stripe(Ring);

#[derive(Debug, Default)]
struct Ring([Bucket; BUCKETS]);

/// Tick in the upper 40 bits, count in the lower 24. Of ticks of a millisecond
/// these are 34 years, and what is more than 16 million is not counted.
#[derive(Debug, Default)]
struct Bucket(AtomicU64);

// === impl Window ===

impl Window {
    pub(super) fn new(length: Duration) -> Self {
        let buckets = u32::try_from(BUCKETS).unwrap_or(u32::MAX);
        Self {
            tick: (length / buckets).max(Duration::from_millis(1)),
            calls: array::from_fn(|_| Stripe::default()),
            failed: Ring::default(),
            slow: Ring::default(),
        }
    }

    /// Counts a call that ended `now` after the window's beginning.
    pub(super) fn add(&self, now: Duration, failed: bool, slow: bool) {
        let tick = self.tick_of(now);
        self.calls[stripes::of_this_thread()].0.add(tick);
        if failed {
            self.failed.add(tick);
        }
        if slow {
            self.slow.add(tick);
        }
    }

    pub(super) fn counts(&self, now: Duration) -> Counts {
        let tick = self.tick_of(now);
        Counts {
            calls: self.calls.iter().map(|stripe| stripe.0.sum(tick)).sum(),
            failed: self.failed.sum(tick),
            slow: self.slow.sum(tick),
        }
    }

    /// Begins to count anew.
    pub(super) fn clear(&self) {
        let calls = self.calls.iter().map(|stripe| &stripe.0);
        for ring in calls.chain([&self.failed, &self.slow]) {
            ring.clear();
        }
    }

    fn tick_of(&self, now: Duration) -> u64 {
        // One more, so that no bucket counts for a tick before it is used.
        let ticks = now.as_nanos() / self.tick.as_nanos() + 1;
        u64::try_from(ticks).unwrap_or(u64::MAX) & (u64::MAX >> COUNT_BITS)
    }
}

// === impl Ring ===

impl Ring {
    fn add(&self, tick: u64) {
        let place = usize::try_from(tick % BUCKETS as u64).unwrap_or(0);
        self.0[place].add(tick);
    }

    fn sum(&self, tick: u64) -> u64 {
        let words = self.0.iter().map(|it| it.0.load(Ordering::Relaxed));
        let young = words.filter(|word| tick < (word >> COUNT_BITS) + BUCKETS as u64);
        young.map(|word| word & COUNT).sum()
    }

    fn clear(&self) {
        for bucket in &self.0 {
            bucket.0.store(0, Ordering::Relaxed);
        }
    }
}

// === impl Bucket ===

const COUNT_BITS: u32 = 24;
const COUNT: u64 = (1 << COUNT_BITS) - 1;

impl Bucket {
    fn add(&self, tick: u64) {
        let mut word = self.0.load(Ordering::Relaxed);
        loop {
            // A thread that was held up counts for the tick that it finds.
            let younger = tick > word >> COUNT_BITS;
            let next = match word & COUNT {
                _ if younger => tick << COUNT_BITS | 1,
                COUNT => return,
                _ => word + 1,
            };
            let swap =
                (self.0).compare_exchange_weak(word, next, Ordering::Relaxed, Ordering::Relaxed);
            match swap {
                Ok(_) => return,
                Err(found) => word = found,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Against a list of all that was counted.
        #[test]
        fn window_counts_the_last_buckets_and_nothing_else(
            calls in proptest::collection::vec((0..1_500_u64, any::<bool>(), any::<bool>()), 1..200),
        ) {
            // Ten buckets of 100 ms.
            let window = Window::new(Duration::from_secs(1));
            let (mut now, mut all) = (0, Vec::new());
            for (pause, failed, slow) in calls {
                now += pause;
                window.add(Duration::from_millis(now), failed, slow);
                all.push((now / 100, failed, slow));
                let young = all.iter().filter(|it| now / 100 - it.0 < 10);
                let (calls, failed, slow) = young.fold((0, 0, 0), |sum, it| {
                    (sum.0 + 1, sum.1 + u64::from(it.1), sum.2 + u64::from(it.2))
                });
                let expected = Counts { calls, failed, slow };
                prop_assert_eq!(window.counts(Duration::from_millis(now)), expected);
            }
            window.clear();
            prop_assert_eq!(window.counts(Duration::from_millis(now)), Counts::default());
        }
    }

    #[test]
    fn threads_that_count_at_once_lose_nothing() {
        let window = Window::new(Duration::from_secs(1_000));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..10_000).for_each(|_| window.add(Duration::ZERO, true, true)));
            }
        });
        let expected = Counts {
            calls: 80_000,
            failed: 80_000,
            slow: 80_000,
        };
        assert_eq!(window.counts(Duration::ZERO), expected);
    }
}
