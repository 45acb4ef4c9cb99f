//! Entries in quick_cache. Only this file knows it.

use std::hash::BuildHasherDefault;
use std::thread::available_parallelism;

use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{OptionsBuilder, Weighter};

use super::{Engine, NearKey, Probe, Ready};
use crate::l1::{ENTRY_OVERHEAD, Entry};

/// What an entry weighs on the average, about: it says how many keys are
/// remembered that were pushed out, which take a tenth of that.
const USUAL: u64 = 2 * ENTRY_OVERHEAD as u64;

/// The least part of the budget that a shard has. Each keeps to a part of its
/// own, and the longest value has to fit into one.
const SHARD: u64 = 4 << 20;

/// Shards for each thread that the machine runs at once.
const SHARDS_EACH: usize = 4;

pub(crate) struct Quick(
    Cache<NearKey, Entry, Weigh, BuildHasherDefault<Ready>, DefaultLifecycle<NearKey, Entry>>,
);

#[derive(Clone, Copy)]
enum Weigh {
    Bytes,
    One,
}

// === impl Quick ===

impl Quick {
    /// Keeps entries up to a total weight.
    pub(super) fn by_weight(budget: u64) -> Self {
        let shards = usize::try_from(budget / SHARD).unwrap_or(usize::MAX);
        Self::new(Weigh::Bytes, budget, budget / USUAL, shards)
    }

    /// Keeps so many entries.
    pub(super) fn by_count(most: u64) -> Self {
        Self::new(Weigh::One, most, most, usize::MAX)
    }

    fn new(weigh: Weigh, most: u64, entries: u64, shards: usize) -> Self {
        let threads = available_parallelism().map_or(1, usize::from);
        // The number is raised to a power of two; half of it stays below.
        let shards = shards.clamp(1, threads * SHARDS_EACH);
        let shards = if shards.is_power_of_two() {
            shards
        } else {
            shards.next_power_of_two() / 2
        };
        let options = OptionsBuilder::new()
            .weight_capacity(most)
            .estimated_items_capacity(usize::try_from(entries).unwrap_or(usize::MAX))
            .shards(shards)
            .build()
            .expect("both capacities are given");
        Self(Cache::with_options(
            options,
            weigh,
            BuildHasherDefault::default(),
            DefaultLifecycle::default(),
        ))
    }
}

impl Engine for Quick {
    #[inline]
    fn get(&self, probe: &Probe<'_>) -> Option<Entry> {
        self.0.get(probe)
    }

    fn put(&self, key: NearKey, entry: Entry) {
        self.0.insert(key, entry);
    }

    fn remove(&self, probe: &Probe<'_>) {
        self.0.remove(probe);
    }

    fn sweep(&self, over: impl Fn(&Entry) -> bool) {
        // One by one, since `retain` holds a shard until it is through.
        for (key, entry) in self.0.iter() {
            if over(&entry) {
                self.0.remove_if(&key, &over);
            }
        }
    }

    fn count(&self) -> u64 {
        self.0.len() as u64
    }

    fn weight(&self) -> u64 {
        self.0.weight()
    }
}

// === impl Weigh ===

impl Weighter<NearKey, Entry> for Weigh {
    fn weight(&self, _: &NearKey, entry: &Entry) -> u64 {
        match self {
            Self::Bytes => entry.weight.into(),
            Self::One => 1,
        }
    }
}
