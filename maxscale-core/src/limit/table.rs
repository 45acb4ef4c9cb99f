//! As many entries as there is room for.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// How many keys are looked at to make room for a new one.
const LOOKED_AT: usize = 8;

/// What is kept of keys, and until when it counts. At most so many are kept: for a
/// new one, a key of which nothing counts any more goes, else the one near the hand
/// that is there soonest.
#[derive(Debug)]
pub(super) struct Table<S> {
    places: HashMap<u128, usize, BuildHasherDefault<Hashed>>,
    entries: Vec<Entry<S>>,
    capacity: usize,
    /// Where to look next for a key to forget.
    hand: usize,
}

#[derive(Debug)]
pub(super) struct Entry<S> {
    pub(super) key: u128,
    pub(super) state: S,
    /// From then on nothing of it counts.
    pub(super) over_at: i64,
}

/// The hash that a key is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Hashed(u64);

// === impl Table ===

impl<S> Table<S> {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            places: HashMap::default(),
            entries: Vec::new(),
            capacity,
            hand: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn get(&self, key: u128) -> Option<&S> {
        self.place(key).map(|place| self.at(place))
    }

    /// What still counts.
    pub(super) fn live(&self, key: u128, now: i64) -> Option<&S> {
        let entry = &self.entries[self.place(key)?];
        (entry.over_at > now).then_some(&entry.state)
    }

    #[cfg(feature = "redis")]
    pub(super) fn get_mut(&mut self, key: u128) -> Option<&mut Entry<S>> {
        let place = self.place(key)?;
        Some(&mut self.entries[place])
    }

    #[cfg(feature = "redis")]
    pub(super) fn entries_mut(&mut self) -> &mut [Entry<S>] {
        &mut self.entries
    }

    /// Where a key is, until the next change.
    pub(super) fn place(&self, key: u128) -> Option<usize> {
        self.places.get(&key).copied()
    }

    pub(super) fn at(&self, place: usize) -> &S {
        &self.entries[place].state
    }

    pub(super) fn put(&mut self, entry: Entry<S>, now: i64) {
        match self.place(entry.key) {
            Some(place) => self.put_at(place, entry),
            None => drop(self.add(entry, now)),
        }
    }

    /// Where the same key is.
    pub(super) fn put_at(&mut self, place: usize, entry: Entry<S>) {
        self.entries[place] = entry;
    }

    /// Of a key that is not there. Gives back what made way for it.
    pub(super) fn add(&mut self, entry: Entry<S>, now: i64) -> Option<S> {
        let key = entry.key;
        if self.entries.len() < self.capacity {
            self.places.insert(key, self.entries.len());
            self.entries.push(entry);
            return None;
        }
        let place = self.place_to_free(now);
        let gone = std::mem::replace(&mut self.entries[place], entry);
        self.places.remove(&gone.key);
        self.places.insert(key, place);
        Some(gone.state)
    }

    pub(super) fn remove(&mut self, key: u128) {
        let Some(place) = self.places.remove(&key) else {
            return;
        };
        self.entries.swap_remove(place);
        if let Some(moved) = self.entries.get(place) {
            self.places.insert(moved.key, place);
        }
        self.hand = self.hand.min(self.entries.len().saturating_sub(1));
    }

    fn place_to_free(&mut self, now: i64) -> usize {
        let mut soonest = self.hand;
        for _ in 0..LOOKED_AT.min(self.entries.len()) {
            let place = self.hand;
            self.hand = (place + 1) % self.entries.len();
            let over_at = self.entries[place].over_at;
            if over_at <= now {
                return place;
            }
            if over_at < self.entries[soonest].over_at {
                soonest = place;
            }
        }
        soonest
    }
}

// === impl Hashed ===

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    /// The upper half: the lower one may say which table it is.
    fn write_u128(&mut self, hash: u128) {
        self.0 = (hash >> 64) as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_that_is_removed_leaves_all_others_where_they_are_found() {
        let mut table = Table::new(4);
        let entry = |key| Entry {
            key,
            state: key * 10,
            over_at: 100,
        };
        for key in 0..4 {
            table.put(entry(key), 0);
        }
        for (removed, left) in [(1, &[0, 2, 3][..]), (3, &[0, 2]), (0, &[2])] {
            table.remove(removed);
            table.remove(removed);
            assert_eq!(table.get(removed), None);
            for key in left {
                assert_eq!(table.live(*key, 99), Some(&(key * 10)));
                assert_eq!(table.live(*key, 100), None);
            }
        }
        for key in 5..50 {
            table.put(entry(key), 100);
        }
        assert_eq!(table.len(), 4);
    }
}
