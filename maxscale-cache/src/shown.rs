//! What was shown though L2 does not have it.
//!
//! A load that L2 had no part in, or whose value it refused, may have found a
//! change that is not invalidated yet, while L2 has what another load found
//! before. Who saw the newer value shall not be shown the older one next. So for
//! a while this process takes no value of such a key from L2 that was loaded
//! before that load had ended; it loads again.

use std::sync::{Mutex, MutexGuard, PoisonError};

const STRIPES: usize = 64;

/// How long it is remembered, in ticks. Changes are invalidated sooner.
const KEPT: u64 = 10_000_000;

/// Keys remembered of each stripe; the oldest is forgotten for one more.
const MOST: usize = 128;

#[derive(Debug)]
pub(crate) struct Shown([Mutex<Vec<Seen>>; STRIPES]);

#[derive(Clone, Copy, Debug)]
struct Seen {
    hash: u64,
    /// When the load had ended, by the store's clock.
    loaded: u64,
    /// When that was noted, in ticks.
    noted: u64,
}

// === impl Shown ===

impl Shown {
    /// Notes that a value which was loaded until `loaded` is shown.
    pub(crate) fn note(&self, hash: u64, loaded: u64, now: u64) {
        let mut stripe = self.stripe(hash);
        let loaded = loaded.max(least(&stripe, hash, now));
        stripe.retain(|seen| seen.hash != hash && !seen.is_over(now));
        if stripe.len() >= MOST {
            stripe.remove(0);
        }
        stripe.push(Seen {
            hash,
            loaded,
            noted: now,
        });
    }

    /// Since when a value has to be loaded to be shown next; 0 if any will do.
    pub(crate) fn least(&self, hash: u64, now: u64) -> u64 {
        least(&self.stripe(hash), hash, now)
    }

    fn stripe(&self, hash: u64) -> MutexGuard<'_, Vec<Seen>> {
        let stripe = usize::try_from((hash >> 40) % STRIPES as u64).expect("below 64");
        self.0[stripe]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn least(stripe: &[Seen], hash: u64, now: u64) -> u64 {
    let mut mine = stripe.iter().filter(|seen| seen.hash == hash);
    mine.find(|seen| !seen.is_over(now))
        .map_or(0, |seen| seen.loaded)
}

impl Default for Shown {
    fn default() -> Self {
        Self([const { Mutex::new(Vec::new()) }; STRIPES])
    }
}

// === impl Seen ===

impl Seen {
    const fn is_over(&self, now: u64) -> bool {
        now.saturating_sub(self.noted) >= KEPT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latest_load_of_a_key_counts_for_a_while() {
        let shown = Shown::default();
        shown.note(1, 500, 10);
        shown.note(1, 400, 11);
        assert_eq!(shown.least(1, 12), 500);
        assert_eq!(shown.least(2, 12), 0);
        assert_eq!(shown.least(1, 11 + KEPT), 0);
    }

    #[test]
    fn memory_is_bounded() {
        let shown = Shown::default();
        for hash in 0..=MOST as u64 {
            shown.note(hash, 5, 10);
        }
        assert_eq!(shown.least(0, 10), 0, "the oldest");
        assert_eq!(shown.least(1, 10), 5);
    }
}
