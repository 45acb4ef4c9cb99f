//! Decoded values in this process, and the stamps that keep old ones out.
//!
//! Keys share 1,024 generation stamps. Whoever is about to fetch a value takes
//! the key's [`Stamp`] *first*; [`L1::insert`] refuses the value if the stamp
//! moved meanwhile. Check and insert happen under the stamp's lock, and so do
//! a drop's move and removal: no value fetched before a drop gets in after it.
//! Two keys that share a stamp cost each other a refused insert now and then,
//! which is a later miss and never an old value.

use std::any::Any;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use moka::sync::Cache;
use tokio::time::Instant;

use crate::expiry::{Expires, OwnTtl};

const STRIPES: usize = 1_024;

/// What an entry takes beside its key and value: moka's bucket, allocations and
/// places in its queues. Without it, many small values would hold several times
/// the memory that the capacity allows.
const ENTRY_OVERHEAD: usize = 512;

pub(crate) type AnyValue = Arc<dyn Any + Send + Sync>;

pub(crate) struct L1 {
    entries: Cache<Arc<str>, Entry>,
    generations: Box<[Mutex<u64>]>,
    /// Entries of an earlier epoch are not served.
    epoch: AtomicU64,
    hasher: RandomState,
}

/// The state of a key's stamp at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    generation: u64,
    epoch: u64,
}

/// When a value was last known to be true, and how long it may be served from then.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Freshness {
    pub(crate) since: Instant,
    pub(crate) ttl: Duration,
}

#[derive(Clone)]
struct Entry {
    value: AnyValue,
    epoch: u64,
    ttl: Duration,
    weight: u32,
}

// === impl L1 ===

impl L1 {
    pub(crate) fn new(budget: u64) -> Self {
        Self {
            entries: Cache::builder()
                .max_capacity(budget)
                .weigher(|_, entry: &Entry| entry.weight)
                .expire_after(OwnTtl)
                .build(),
            generations: (0..STRIPES).map(|_| Mutex::new(0)).collect(),
            epoch: AtomicU64::new(0),
            hasher: RandomState::new(),
        }
    }

    pub(crate) fn get(&self, key: &str) -> Option<AnyValue> {
        let entry = self.entries.get(key)?;
        (entry.epoch == self.epoch.load(Ordering::SeqCst)).then_some(entry.value)
    }

    /// The key's stamp; take it before fetching a value.
    pub(crate) fn stamp(&self, key: &str) -> Stamp {
        let generation = *self.generation(key);
        let epoch = self.epoch.load(Ordering::SeqCst);
        Stamp { generation, epoch }
    }

    /// Keeps `value`, unless the key was dropped since `stamp` or the value is
    /// past its time. `size` is the length of the value as encoded.
    pub(crate) fn insert(
        &self,
        key: &Arc<str>,
        stamp: Stamp,
        value: AnyValue,
        size: usize,
        fresh: Freshness,
    ) -> bool {
        let ttl = fresh.ttl.saturating_sub(fresh.since.elapsed());
        if ttl.is_zero() {
            return false;
        }
        let weight = u32::try_from(ENTRY_OVERHEAD + key.len() + size).unwrap_or(u32::MAX);
        let entry = Entry {
            value,
            epoch: stamp.epoch,
            ttl,
            weight,
        };
        let generation = self.generation(key);
        if *generation != stamp.generation || self.epoch.load(Ordering::SeqCst) != stamp.epoch {
            return false;
        }
        self.entries.insert(key.clone(), entry);
        true
    }

    /// Forgets `key` and whatever is on its way in.
    pub(crate) fn drop_key(&self, key: &str) {
        let mut generation = self.generation(key);
        *generation += 1;
        self.entries.invalidate(key);
    }

    /// Forgets everything and whatever is on its way in.
    pub(crate) fn drop_all(&self) {
        // The epoch alone decides what is served; the rest frees memory.
        self.epoch.fetch_add(1, Ordering::SeqCst);
        self.entries.invalidate_all();
    }

    fn generation(&self, key: &str) -> MutexGuard<'_, u64> {
        let hash = self.hasher.hash_one(key);
        let stripe = usize::try_from(hash % STRIPES as u64).expect("below 1,024");
        self.generations[stripe]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Entry ===

impl Expires for Entry {
    fn ttl(&self) -> Duration {
        self.ttl
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keep(l1: &L1, key: &str, stamp: Stamp, value: u32) -> bool {
        let fresh = Freshness {
            since: Instant::now(),
            ttl: Duration::from_secs(60),
        };
        l1.insert(&key.into(), stamp, Arc::new(value), 4, fresh)
    }

    fn read(l1: &L1, key: &str) -> Option<u32> {
        l1.get(key).map(|v| *v.downcast::<u32>().unwrap())
    }

    #[test]
    fn value_fetched_before_a_drop_is_refused_after_it() {
        let l1 = L1::new(1 << 20);
        let before = l1.stamp("k");
        l1.drop_key("k");
        assert!(!keep(&l1, "k", before, 1));
        assert_eq!(read(&l1, "k"), None);

        assert!(keep(&l1, "k", l1.stamp("k"), 2));
        assert_eq!(read(&l1, "k"), Some(2));
    }

    #[test]
    fn dropping_all_drops_what_is_in_and_what_is_on_its_way() {
        let l1 = L1::new(1 << 20);
        assert!(keep(&l1, "in", l1.stamp("in"), 1));
        let before = l1.stamp("coming");
        l1.drop_all();

        assert_eq!(read(&l1, "in"), None);
        assert!(!keep(&l1, "coming", before, 1));
        assert!(keep(&l1, "in", l1.stamp("in"), 2));
        assert_eq!(read(&l1, "in"), Some(2));
    }

    #[test]
    fn value_older_than_its_time_is_refused() {
        let l1 = L1::new(1 << 20);
        let fresh = Freshness {
            since: Instant::now(),
            ttl: Duration::ZERO,
        };
        assert!(!l1.insert(&"k".into(), l1.stamp("k"), Arc::new(1_u32), 4, fresh));
    }
}
