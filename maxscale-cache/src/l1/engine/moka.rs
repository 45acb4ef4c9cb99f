//! Entries in moka. Of L1 only this file knows it.

use std::hash::BuildHasherDefault;

use moka::sync::Cache;

use super::{Engine, NearKey, Probe, Ready};
use crate::l1::Entry;

pub(crate) struct Moka(Cache<NearKey, Entry, BuildHasherDefault<Ready>>);

// === impl Moka ===

impl Moka {
    /// Keeps entries up to a total weight.
    pub(super) fn by_weight(budget: u64) -> Self {
        let builder = Cache::builder()
            .max_capacity(budget)
            .weigher(|_, entry: &Entry| entry.weight);
        Self(builder.build_with_hasher(BuildHasherDefault::default()))
    }

    /// Keeps so many entries.
    pub(super) fn by_count(most: u64) -> Self {
        let builder = Cache::builder().max_capacity(most);
        Self(builder.build_with_hasher(BuildHasherDefault::default()))
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> u64 {
        self.0.run_pending_tasks();
        self.0.entry_count()
    }
}

impl Engine for Moka {
    #[inline]
    fn get(&self, probe: &Probe<'_>) -> Option<Entry> {
        self.0.get(probe)
    }

    fn put(&self, key: NearKey, entry: Entry) {
        self.0.insert(key, entry);
    }

    fn remove(&self, probe: &Probe<'_>) {
        self.0.invalidate(probe);
    }

    fn sweep(&self, over: impl Fn(&Entry) -> bool) {
        for (key, entry) in &self.0 {
            if over(&entry) {
                self.0.invalidate(&*key);
            }
        }
    }

    fn count(&self) -> u64 {
        self.0.entry_count()
    }

    fn weight(&self) -> u64 {
        self.0.weighted_size()
    }
}
