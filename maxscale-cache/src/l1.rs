//! Decoded values in this process, and the stamps that keep old ones out.
//!
//! Keys share 4,096 generation stamps. Whoever is about to fetch a value takes
//! the key's [`Stamp`] *first*; [`L1::insert`] refuses the value if the stamp
//! moved meanwhile. Check and insert happen under the stamp's lock, and so do
//! a drop's move and removal: no value fetched before a drop gets in after it.
//! Two keys that share a stamp cost each other a refused insert now and then,
//! which is a later miss and never an old value.
//!
//! When a drop may have been missed, the epoch moves, and every entry is
//! suspect until L2 was asked whether its fence is still the one it was stored
//! under.

mod engine;
mod entry;
mod hot;

use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use xxhash_rust::xxh3::xxh3_64_with_seed;

pub use engine::L1Engine;
pub(crate) use engine::{NearKey, Probe};
pub(crate) use entry::{AnyValue, Entry, Kept, State, Trust};

use engine::{Chosen, Engine as _};
use hot::{Found, Hot, Place};

const STRIPES: usize = 4_096;

/// What an entry takes beside its key and value: moka's bucket, allocations and
/// places in its queues. Without it, many small values would hold several times
/// the memory that the capacity allows.
pub(crate) const ENTRY_OVERHEAD: usize = 512;

/// The fewest entries that come between two sweeps.
const SWEEP_AFTER: u64 = 4_096;

pub(crate) struct L1 {
    values: Chosen,
    /// What is known not to exist, apart, so that whoever asks for made-up ids
    /// pushes out no value.
    absent: Chosen,
    hot: Hot,
    generations: Box<[Mutex<u64>]>,
    epoch: AtomicU64,
    /// Entries since the last sweep.
    came: AtomicU64,
    seed: u64,
}

/// The state of a key's stamp at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    generation: u64,
    pub(crate) epoch: u64,
}

// === impl L1 ===

impl L1 {
    /// Keeps about `budget` bytes of values, and `absent` ids without one.
    pub(crate) fn new(engine: L1Engine, budget: u64, absent: u64) -> Self {
        let (hot, copies) = Hot::new(budget);
        Self {
            values: Chosen::by_weight(engine, budget - copies),
            absent: Chosen::by_count(engine, absent),
            hot,
            generations: (0..STRIPES).map(|_| Mutex::new(0)).collect(),
            epoch: AtomicU64::new(0),
            came: AtomicU64::new(0),
            // Nobody who sends ids can tell which of them collide.
            seed: RandomState::new().hash_one(0_u8),
        }
    }

    /// Names the value `part` of the cache numbered `cache`.
    #[inline]
    pub(crate) fn probe<'a>(&self, cache: u32, part: &'a str) -> Probe<'a> {
        let seed = self.seed ^ u64::from(cache).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let hash = xxh3_64_with_seed(part.as_bytes(), seed);
        Probe { hash, cache, part }
    }

    /// What `look` says, at the moment `now`, of the value that this thread has at hand;
    /// who is told nothing has to [`get`](Self::get) it. Clones nothing that threads share.
    #[inline]
    pub(crate) fn at_hand<T>(
        &self,
        probe: &Probe<'_>,
        now: impl FnOnce() -> u64,
        look: impl FnOnce(&Entry, u64) -> Option<T>,
    ) -> Option<T> {
        match self.hot.find(probe.hash) {
            Found::Here(place) => place.look(probe, now, look),
            Found::No => None,
            Found::Wanted(place) => self.take_at_hand(probe, &place),
        }
    }

    #[inline]
    pub(crate) fn get(&self, probe: &Probe<'_>) -> Option<Entry> {
        let value = self.values.get(probe);
        let found = value.or_else(|| self.absent.get(probe));
        found.or_else(|| self.lost(probe))
    }

    /// Has this thread keep a copy of what the engine has, for the next time.
    #[cold]
    fn take_at_hand<T>(&self, probe: &Probe<'_>, place: &Place<'_>) -> Option<T> {
        let generation = self.generation(probe.hash);
        let entry = self.values.get(probe);
        let gone = entry.map(|entry| place.keep(probe.to_key(), entry));
        drop(generation);
        drop(gone);
        None
    }

    /// Nobody is to find what one did not find.
    #[cold]
    fn lost(&self, probe: &Probe<'_>) -> Option<Entry> {
        let generation = self.generation(probe.hash);
        let gone = self.hot.forget(probe);
        drop(generation);
        drop(gone);
        None
    }

    #[inline]
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::SeqCst)
    }

    /// The key's stamp; take it before fetching a value.
    pub(crate) fn stamp(&self, hash: u64) -> Stamp {
        let generation = *self.generation(hash);
        let epoch = self.epoch();
        Stamp { generation, epoch }
    }

    /// Whether nobody dropped the key since `stamp`, as far as was heard.
    pub(crate) fn is_current(&self, hash: u64, stamp: Stamp) -> bool {
        *self.generation(hash) == stamp.generation
    }

    /// Keeps `entry`, unless the key was dropped since `stamp`.
    pub(crate) fn insert(&self, key: &NearKey, stamp: Stamp, entry: Entry) -> bool {
        let generation = self.generation(key.hash);
        if *generation != stamp.generation || self.epoch() != stamp.epoch {
            return false;
        }
        let (into, other) = if entry.value.is_some() {
            (&self.values, &self.absent)
        } else {
            (&self.absent, &self.values)
        };
        let gone = self.hot.forget(&key.probe());
        other.remove(&key.probe());
        into.put(key.clone(), entry);
        drop(generation);
        drop(gone);
        self.came.fetch_add(1, Ordering::Relaxed);
        true
    }

    /// Refuses what is on its way in.
    pub(crate) fn overtake(&self, hash: u64) {
        *self.generation(hash) += 1;
    }

    /// Forgets a key and whatever is on its way in.
    pub(crate) fn drop_key(&self, probe: &Probe<'_>) {
        let mut generation = self.generation(probe.hash);
        *generation += 1;
        let gone = self.hot.forget(probe);
        self.values.remove(probe);
        self.absent.remove(probe);
        drop(generation);
        drop(gone);
    }

    /// Lets a value be served only while nobody has a newer one, and refuses
    /// whatever is on its way in.
    pub(crate) fn mark_stale(&self, probe: &Probe<'_>) {
        let mut generation = self.generation(probe.hash);
        *generation += 1;
        let gone = self.hot.forget(probe);
        self.absent.remove(probe);
        if let Some(entry) = self.values.get(probe) {
            entry.spoil();
        }
        drop(generation);
        drop(gone);
    }

    /// Makes everything suspect, and refuses whatever is on its way in.
    pub(crate) fn new_epoch(&self) {
        self.epoch.fetch_add(1, Ordering::SeqCst);
    }

    /// Whether it is time to sweep, and the caller is the one to do it.
    pub(crate) fn takes_sweep(&self) -> bool {
        let came = self.came.load(Ordering::Relaxed);
        // Then all sweeps together look at an entry a few times.
        let due = (self.values.count() + self.absent.count()) / 2;
        came >= due.max(SWEEP_AFTER)
            && (self.came)
                .compare_exchange(came, 0, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    /// Drops what is of no use to anybody any more. Takes its time.
    pub(crate) fn sweep(&self, now: u64) {
        for engine in [&self.values, &self.absent] {
            engine.sweep(|entry| entry.is_over(now));
        }
        self.hot.sweep(|entry| entry.is_over(now));
    }

    /// What the entries weigh together.
    pub(crate) fn weight(&self) -> u64 {
        self.values.weight()
    }

    fn generation(&self, hash: u64) -> MutexGuard<'_, u64> {
        // Other bits than those by which the engine chooses its own buckets.
        let stripe = usize::try_from((hash >> 20) % STRIPES as u64).expect("below 4,096");
        self.generations[stripe]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    use smallvec::SmallVec;

    use super::*;

    pub(super) const TRUST: Trust = Trust {
        epoch: 0,
        now: 10,
        until: u64::MAX,
        grace: 0,
        l1_ttl: 1_000,
    };

    pub(super) fn kept(value: Option<u32>) -> Entry {
        Arc::new(Kept {
            value: value.map(|value| Arc::new(value) as AnyValue),
            fence: None,
            since: 0,
            begun: 0,
            loaded: 0,
            tags: SmallVec::new(),
            cost: 0,
            fresh_until: 500,
            spoiled: AtomicBool::new(false),
            stale_until: 800,
            known: AtomicU64::new(1),
            epoch: AtomicU64::new(0),
            weight: 600,
        })
    }

    fn key(l1: &L1, part: &str) -> NearKey {
        l1.probe(1, part).to_key()
    }

    fn keep(l1: &L1, part: &str, stamp: Stamp, value: u32) -> bool {
        l1.insert(&key(l1, part), stamp, kept(Some(value)))
    }

    fn stamp(l1: &L1, part: &str) -> Stamp {
        l1.stamp(l1.probe(1, part).hash)
    }

    fn read(l1: &L1, part: &str) -> Option<u32> {
        let entry = l1.get(&l1.probe(1, part))?;
        let value = entry.value.clone()?.downcast::<u32>().unwrap();
        Some(*value)
    }

    #[test]
    fn value_fetched_before_a_drop_is_refused_after_it() {
        let l1 = L1::new(L1Engine::default(), 1 << 20, 10);
        let before = stamp(&l1, "k");
        l1.drop_key(&l1.probe(1, "k"));
        assert!(!keep(&l1, "k", before, 1));
        assert_eq!(read(&l1, "k"), None);

        assert!(keep(&l1, "k", stamp(&l1, "k"), 2));
        assert_eq!(read(&l1, "k"), Some(2));
    }

    #[test]
    fn new_epoch_makes_suspect_what_is_in_and_refuses_what_is_on_its_way() {
        let l1 = L1::new(L1Engine::default(), 1 << 20, 10);
        assert!(keep(&l1, "in", stamp(&l1, "in"), 1));
        let before = stamp(&l1, "coming");
        l1.new_epoch();

        let entry = l1.get(&l1.probe(1, "in")).unwrap();
        let trust = Trust { epoch: 1, ..TRUST };
        assert_eq!(entry.state(&trust), State::Suspect);
        assert!(!keep(&l1, "coming", before, 1));
        assert!(keep(&l1, "coming", stamp(&l1, "coming"), 2));

        entry.confirm(1, 10);
        assert_eq!(entry.state(&trust), State::Fresh);
    }

    #[test]
    fn value_marked_stale_stays_and_is_not_fresh() {
        let l1 = L1::new(L1Engine::default(), 1 << 20, 10);
        assert!(keep(&l1, "k", stamp(&l1, "k"), 1));
        let before = stamp(&l1, "k");
        l1.mark_stale(&l1.probe(1, "k"));
        let entry = l1.get(&l1.probe(1, "k")).unwrap();
        assert_eq!(entry.state(&TRUST), State::Stale);
        assert!(!keep(&l1, "k", before, 2), "a load from before the mark");
    }

    #[test]
    fn same_id_in_another_cache_is_another_value() {
        let l1 = L1::new(L1Engine::default(), 1 << 20, 10);
        assert!(keep(&l1, "k", stamp(&l1, "k"), 1));
        assert!(l1.get(&l1.probe(2, "k")).is_none());
    }

    #[test]
    fn what_is_over_is_swept_out_after_as_many_again_came() {
        let l1 = L1::new(L1Engine::default(), 1 << 30, 10);
        for n in 0..SWEEP_AFTER {
            assert!(!l1.takes_sweep());
            let part = n.to_string();
            assert!(keep(&l1, &part, stamp(&l1, &part), 1));
        }
        assert!(l1.takes_sweep());
        assert!(!l1.takes_sweep(), "one sweeps");
        l1.sweep(799);
        assert_eq!(l1.values.len(), SWEEP_AFTER);
        l1.sweep(800);
        assert_eq!(l1.values.len(), 0);
    }

    #[test]
    fn ids_without_a_value_push_out_none_that_has_one() {
        let l1 = L1::new(L1Engine::default(), 1 << 20, 10);
        assert!(keep(&l1, "k", stamp(&l1, "k"), 1));
        for n in 0..10_000 {
            let part = n.to_string();
            assert!(l1.insert(&key(&l1, &part), stamp(&l1, &part), kept(None)));
        }
        assert_eq!(read(&l1, "k"), Some(1));
        assert!(l1.absent.len() <= 10, "{}", l1.absent.len());
    }
}
