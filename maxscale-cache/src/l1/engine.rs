//! What keeps the entries: moka, with keys that bring their hash along.
//!
//! Only this file knows moka. Nothing relies on it for correctness: it may
//! drop whatever it likes, and it calls nobody back. It is not told how long
//! entries live, for which each read would pay: who reads looks at the entry.

use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::Arc;

use moka::Equivalent;
use moka::sync::Cache;

use super::Entry;

pub(crate) struct Engine(Cache<NearKey, Entry, BuildHasherDefault<Ready>>);

/// A key as entries keep it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NearKey {
    pub(crate) hash: u64,
    pub(crate) cache: u32,
    pub(crate) part: Arc<str>,
}

/// A key to look with, without a copy of anything.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Probe<'a> {
    pub(crate) hash: u64,
    pub(crate) cache: u32,
    pub(crate) part: &'a str,
}

/// Takes the hash that a key brings.
#[derive(Default)]
pub(crate) struct Ready(u64);

// === impl Engine ===

impl Engine {
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

    pub(super) fn get(&self, probe: &Probe<'_>) -> Option<Entry> {
        self.0.get(probe)
    }

    pub(super) fn put(&self, key: NearKey, entry: Entry) {
        self.0.insert(key, entry);
    }

    pub(super) fn remove(&self, probe: &Probe<'_>) {
        self.0.invalidate(probe);
    }

    /// Drops what is `over`. Goes through all of it.
    pub(super) fn sweep(&self, over: impl Fn(&Entry) -> bool) {
        for (key, entry) in &self.0 {
            if over(&entry) {
                self.0.invalidate(&*key);
            }
        }
    }

    /// How many there are, about.
    pub(super) fn count(&self) -> u64 {
        self.0.entry_count()
    }

    pub(super) fn weight(&self) -> u64 {
        self.0.weighted_size()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> u64 {
        self.0.run_pending_tasks();
        self.0.entry_count()
    }
}

// === impl NearKey ===

impl NearKey {
    pub(crate) fn probe(&self) -> Probe<'_> {
        Probe {
            hash: self.hash,
            cache: self.cache,
            part: &self.part,
        }
    }
}

impl Hash for NearKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

// === impl Probe ===

impl Probe<'_> {
    pub(crate) fn to_key(self) -> NearKey {
        NearKey {
            hash: self.hash,
            cache: self.cache,
            part: self.part.into(),
        }
    }
}

impl Hash for Probe<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl Equivalent<NearKey> for Probe<'_> {
    fn equivalent(&self, key: &NearKey) -> bool {
        self.hash == key.hash && self.cache == key.cache && *self.part == *key.part
    }
}

// === impl Ready ===

impl Hasher for Ready {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
