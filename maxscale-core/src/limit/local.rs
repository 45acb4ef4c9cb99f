use std::collections::HashMap;
use std::convert::Infallible;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::gcra::{self, Full};
use super::{Decision, LimitStore, Quota};
use crate::clock::Clock;

const SHARDS: usize = 16;

/// How many keys are looked at to make room for a new one.
const LOOKED_AT: usize = 8;

/// Counts in this process. Cheap to clone; clones share their counts.
///
/// Memory is bounded: at most [`capacity`](Self::with_capacity) keys are held,
/// each by a hash of fixed size. When there is no room, a key with its whole
/// burst available is forgotten, which loses nothing; if there is none among
/// those looked at, the one that lacks least, which regains its burst early.
#[derive(Clone, Debug)]
pub struct LocalLimits {
    clock: Clock,
    // Both secret to this process: nobody outside can make keys collide.
    hashers: [RandomState; 2],
    shards: Arc<[Mutex<Shard>]>,
}

#[derive(Debug)]
struct Shard {
    places: HashMap<u128, usize>,
    entries: Vec<Entry>,
    capacity: usize,
    /// Where to look next for a key to forget.
    hand: usize,
}

#[derive(Debug)]
struct Entry {
    key: u128,
    state: Full,
}

// === impl LocalLimits ===

impl LocalLimits {
    /// How many keys are held, when nothing else is set.
    pub const DEFAULT_CAPACITY: usize = 200_000;

    /// Counts by `clock`, for at most [`LocalLimits::DEFAULT_CAPACITY`] keys.
    pub fn new(clock: Clock) -> Self {
        Self::with_capacity(clock, Self::DEFAULT_CAPACITY)
    }

    /// Counts by `clock`, for at most `keys` keys (rounded up to 16).
    pub fn with_capacity(clock: Clock, keys: usize) -> Self {
        let capacity = keys.div_ceil(SHARDS).max(1);
        Self {
            clock,
            hashers: [RandomState::new(), RandomState::new()],
            shards: (0..SHARDS)
                .map(|_| Mutex::new(Shard::new(capacity)))
                .collect(),
        }
    }

    /// Takes one request from `key`'s quota, without waiting.
    pub fn take_now(&self, key: &str, quota: &Quota) -> Decision {
        let [first, second] = &self.hashers;
        let (high, low) = (first.hash_one(key), second.hash_one(key));
        let key = u128::from(high) << 64 | u128::from(low);
        let mut shard = self.shard(high);
        // Read under the lock, so that no earlier time follows a later one.
        let now = self.clock.now().as_micros();
        shard.take(key, now, quota)
    }

    /// How many keys are held.
    pub fn keys(&self) -> usize {
        (0..SHARDS as u64)
            .map(|n| self.shard(n).entries.len())
            .sum()
    }

    fn shard(&self, hash: u64) -> MutexGuard<'_, Shard> {
        #[expect(clippy::cast_possible_truncation, reason = "below 16")]
        let shard = &self.shards[(hash % SHARDS as u64) as usize];
        // Nothing panics while holding it, and its state is valid at each step.
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LimitStore for LocalLimits {
    type Error = Infallible;

    async fn take(&self, key: &str, quota: &Quota) -> Result<Decision, Infallible> {
        Ok(self.take_now(key, quota))
    }
}

// === impl Shard ===

impl Shard {
    fn new(capacity: usize) -> Self {
        Self {
            places: HashMap::new(),
            entries: Vec::new(),
            capacity,
            hand: 0,
        }
    }

    fn take(&mut self, key: u128, now: i64, quota: &Quota) -> Decision {
        if let Some(&place) = self.places.get(&key) {
            let entry = &mut self.entries[place];
            let (decision, state) = gcra::decide(entry.state, now, quota);
            entry.state = state;
            return decision;
        }
        let (decision, state) = gcra::decide(Full::ALWAYS, now, quota);
        let entry = Entry { key, state };
        let place = if self.entries.len() < self.capacity {
            self.entries.push(entry);
            self.entries.len() - 1
        } else {
            let place = self.place_to_free(now);
            self.places.remove(&self.entries[place].key);
            self.entries[place] = entry;
            place
        };
        self.places.insert(key, place);
        decision
    }

    /// The place of a full bucket near the hand, else of the fullest one there.
    fn place_to_free(&mut self, now: i64) -> usize {
        let mut fullest = self.hand;
        for _ in 0..LOOKED_AT.min(self.entries.len()) {
            let place = self.hand;
            self.hand = (place + 1) % self.entries.len();
            let full_at = self.entries[place].state.as_micros();
            if full_at <= now {
                return place;
            }
            if full_at < self.entries[fullest].state.as_micros() {
                fullest = place;
            }
        }
        fullest
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::time::Duration;

    use super::*;
    use crate::clock::Timestamp;

    fn quota(per: u32) -> Quota {
        Quota::per_minute(NonZeroU32::new(per).unwrap()).unwrap()
    }

    #[test]
    fn flood_of_keys_holds_no_more_than_the_capacity() {
        let (clock, _) = Clock::manual(Timestamp::from_micros(0));
        let limits = LocalLimits::with_capacity(clock, 160);
        for n in 0..10_000 {
            assert!(
                limits
                    .take_now(&format!("key {n}"), &quota(60))
                    .is_allowed()
            );
        }
        assert_eq!(limits.keys(), 160);
    }

    #[test]
    fn flood_of_keys_does_not_free_a_key_that_is_denied() {
        let (clock, time) = Clock::manual(Timestamp::from_micros(0));
        let limits = LocalLimits::with_capacity(clock, 16 * 16);
        let used_up = quota(100);
        for _ in 0..100 {
            limits.take_now("attacker", &used_up);
        }
        for n in 0..10_000 {
            time.advance(Duration::from_micros(1));
            limits.take_now(&format!("key {n}"), &used_up);
        }
        assert!(!limits.take_now("attacker", &used_up).is_allowed());
    }
}
