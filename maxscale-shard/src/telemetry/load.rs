use std::fmt;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use maxscale_core::fact::VirtualShard;

use super::topk::TopK;
use crate::key::Key;

/// How the load is measured.
#[derive(Clone, Debug)]
#[must_use]
pub struct LoadOptions {
    sampled: u32,
    keys: usize,
    secret: RandomState,
}

/// How many requests were routed to each virtual shard, and for which keys most.
/// Cheap to clone; read by whoever looks for what is hot.
///
/// A request is one call of [`Router::shard`](crate::Router::shard) or
/// [`route`](crate::Router::route) that found the key's place. Each is counted
/// for its virtual shard; of the keys a random sample is.
#[derive(Clone, Debug)]
pub struct Load(Arc<Inner>);

/// A key that many requests are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HotKey {
    /// Stands for the key; [`Load::hash`] tells that of a key that is known.
    pub hash: KeyHash,
    /// Where the key lies, or lay when it was counted last.
    pub shard: VirtualShard,
    /// About how many of the recent requests are for it.
    pub requests: u64,
    /// How many of these may be for other keys.
    pub over: u64,
}

/// Stands for a key within one process: made with a secret that no one is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KeyHash(u64);

struct Inner {
    shards: Box<[AtomicU64]>,
    /// A count whose mixed bits are not above this is sampled.
    below: u64,
    sampled: u32,
    salt: u64,
    secret: RandomState,
    hottest: Mutex<TopK<(KeyHash, VirtualShard)>>,
}

// === impl LoadOptions ===

impl LoadOptions {
    /// One key in so many is looked at unless said otherwise.
    pub const DEFAULT_SAMPLED: u32 = 64;

    /// So many keys are kept unless said otherwise.
    pub const DEFAULT_KEYS: usize = 128;

    /// After so many samples all counts of keys are halved.
    const HALVE_AT: u64 = 1 << 16;

    /// The defaults, with a secret of the operating system's.
    pub fn new() -> Self {
        Self {
            sampled: Self::DEFAULT_SAMPLED,
            keys: Self::DEFAULT_KEYS,
            secret: RandomState::new(),
        }
    }

    /// Looks at one key in `sampled`; at each one for 0 or 1.
    ///
    /// Default: [`LoadOptions::DEFAULT_SAMPLED`].
    pub const fn sampled(mut self, sampled: u32) -> Self {
        self.sampled = sampled;
        self
    }

    /// Keeps `keys` keys, at least 1. A key of more than one in `keys` samples is
    /// not missed; each sample costs a look at all that are kept.
    ///
    /// Default: [`LoadOptions::DEFAULT_KEYS`].
    pub const fn keys(mut self, keys: usize) -> Self {
        self.keys = keys;
        self
    }
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self::new()
    }
}

// === impl Load ===

impl Load {
    pub(crate) fn new(shards: u32, options: &LoadOptions) -> Self {
        let sampled = options.sampled.max(1);
        Self(Arc::new(Inner {
            shards: (0..shards).map(|_| AtomicU64::new(0)).collect(),
            below: u64::MAX / u64::from(sampled),
            sampled,
            salt: options.secret.hash_one(0_u8),
            secret: options.secret.clone(),
            hottest: Mutex::new(TopK::new(options.keys, LoadOptions::HALVE_AT)),
        }))
    }

    /// The requests for `shard` since the start; `None` where there is no such shard.
    pub fn of(&self, shard: VirtualShard) -> Option<u64> {
        let count = self.0.shards.get(usize::try_from(shard.get()).ok()?)?;
        Some(count.load(Ordering::Relaxed))
    }

    /// The requests since the start for each virtual shard, by its number.
    pub fn shards(&self) -> Vec<u64> {
        let counts = self.0.shards.iter();
        counts.map(|count| count.load(Ordering::Relaxed)).collect()
    }

    /// The hottest keys of the recent past, the hottest first, at most `most`.
    pub fn hottest(&self, most: usize) -> Vec<HotKey> {
        let kept = self.0.hottest.lock();
        let entries = kept.unwrap_or_else(PoisonError::into_inner).sorted();
        let times = u64::from(self.0.sampled);
        let told = entries.into_iter().take(most).map(|entry| HotKey {
            hash: entry.key.0,
            shard: entry.key.1,
            requests: entry.count * times,
            over: entry.over * times,
        });
        told.collect()
    }

    /// What stands for `key` in this process, to find out whether it is hot.
    pub fn hash<'k>(&self, key: impl Into<Key<'k>>) -> KeyHash {
        self.0.hash(key.into())
    }

    /// Counts a request. Neither waits nor allocates.
    pub(crate) fn note(&self, shard: VirtualShard, key: Key<'_>) {
        let Self(inner) = self;
        let at = usize::try_from(shard.get()).ok();
        let Some(count) = at.and_then(|at| inner.shards.get(at)) else {
            return;
        };
        let before = count.fetch_add(1, Ordering::Relaxed);
        // At random, as requests that come in turns would else be sampled in turns.
        if mixed(before ^ inner.salt.rotate_left(shard.get())) > inner.below {
            return;
        }
        // Somebody else samples just now: this one is missed.
        if let Ok(mut hottest) = inner.hottest.try_lock() {
            hottest.count((inner.hash(key), shard));
        }
    }
}

// === impl Inner ===

impl Inner {
    fn hash(&self, key: Key<'_>) -> KeyHash {
        let mut hasher = self.secret.build_hasher();
        key.with_text(|text| text.hash(&mut hasher));
        KeyHash(hasher.finish())
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // There may be a hundred thousand shards.
        f.debug_struct("Load")
            .field("sampled", &self.sampled)
            .finish_non_exhaustive()
    }
}

/// The finalizer of SplitMix64 (Steele, Lea, Flood, "Fast Splittable
/// Pseudorandom Number Generators", OOPSLA 2014).
const fn mixed(mut bits: u64) -> u64 {
    bits = bits.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

// === impl KeyHash ===

impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(sampled: u32) -> Load {
        Load::new(16, &LoadOptions::new().sampled(sampled))
    }

    #[test]
    fn requests_are_counted_for_their_shard_and_the_key_is_kept_as_a_hash() {
        let load = load(1);
        let nine = VirtualShard::new(9);
        for _ in 0..3 {
            load.note(nine, "acme".into());
        }
        load.note(VirtualShard::new(2), 42.into());
        load.note(VirtualShard::new(16), "beyond".into());
        assert_eq!(load.of(nine), Some(3));
        assert_eq!(load.of(VirtualShard::new(16)), None);
        assert_eq!(load.shards().iter().sum::<u64>(), 4);
        let hottest = load.hottest(1);
        let acme = HotKey {
            hash: load.hash("acme"),
            shard: nine,
            requests: 3,
            over: 0,
        };
        assert_eq!(hottest, [acme]);
        assert_eq!(load.hash(42), load.hash("42"), "one key has one hash");
        assert!(!format!("{load:?}{hottest:?}").contains("acme"));
    }

    #[test]
    fn hashes_of_two_processes_tell_nothing_of_each_other() {
        assert_ne!(load(1).hash("acme"), load(1).hash("acme"));
    }

    #[test]
    fn hot_key_is_found_in_a_sample_although_requests_come_in_turns() {
        let load = load(16);
        let (hot, rounds) = (VirtualShard::new(5), 4_000_u32);
        for round in 0..rounds {
            // Each 16th request is the hot one's, as if to hide between samples.
            load.note(hot, "hot".into());
            for other in 0..15 {
                load.note(hot, (i64::from(round) * 15 + other).into());
            }
        }
        let hottest = load.hottest(1)[0];
        assert_eq!(hottest.hash, load.hash("hot"));
        let exact = u64::from(rounds);
        let near = exact / 2..=exact * 2;
        assert!(near.contains(&hottest.requests), "{hottest:?} of {exact}");
    }
}
