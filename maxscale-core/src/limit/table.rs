//! As many entries as there is room for.

use hashbrown::HashTable;

/// How many keys are looked at to make room for a new one.
const LOOKED_AT: usize = 8;

/// What is kept of keys, and until when it counts. At most so many are kept: for a
/// new one, a key of which nothing counts any more goes, else the one near the hand
/// that is there soonest.
#[derive(Debug)]
pub(super) struct Table<S> {
    /// Where each key is: small, so that it stays near.
    places: HashTable<u32>,
    entries: Vec<Entry<S>>,
    capacity: usize,
    /// Where to look next for a key to forget.
    hand: usize,
}

/// Begins on a cache line of its own: it is read by chance, and as few are fetched
/// as can be.
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct Entry<S> {
    pub(super) key: u128,
    pub(super) state: S,
    /// From then on nothing of it counts.
    pub(super) over_at: i64,
}

// === impl Table ===

impl<S> Table<S> {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            places: HashTable::new(),
            entries: Vec::new(),
            capacity: capacity.min(u32::MAX as usize),
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
        let is_it = |place: &u32| self.entries[*place as usize].key == key;
        let place = self.places.find(hash(key), is_it)?;
        Some(*place as usize)
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
            self.insert(key, self.entries.len());
            self.entries.push(entry);
            return None;
        }
        let place = self.place_to_free(now);
        self.take(self.entries[place].key);
        let gone = std::mem::replace(&mut self.entries[place], entry);
        self.insert(key, place);
        Some(gone.state)
    }

    pub(super) fn remove(&mut self, key: u128) {
        let Some(place) = self.take(key) else {
            return;
        };
        // The last one comes there.
        if let Some(last) = self.entries.last()
            && last.key != key
        {
            let last = last.key;
            self.take(last);
            self.insert(last, place);
        }
        self.entries.swap_remove(place);
        self.hand = self.hand.min(self.entries.len().saturating_sub(1));
    }

    /// Forgets where a key is.
    fn take(&mut self, key: u128) -> Option<usize> {
        let is_it = |place: &u32| self.entries[*place as usize].key == key;
        let found = self.places.find_entry(hash(key), is_it).ok()?;
        Some(found.remove().0 as usize)
    }

    fn insert(&mut self, key: u128, place: usize) {
        let of = |place: &u32| hash(self.entries[*place as usize].key);
        self.places.insert_unique(hash(key), number(place), of);
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

/// The upper half: the lower one may say which table it is.
const fn hash(key: u128) -> u64 {
    (key >> 64) as u64
}

/// Of a place, of which there are no more than this counts.
fn number(place: usize) -> u32 {
    u32::try_from(place).unwrap_or(u32::MAX)
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
