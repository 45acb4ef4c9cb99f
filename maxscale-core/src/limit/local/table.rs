use std::collections::HashMap;

/// How many keys are looked at to make room for a new one.
const LOOKED_AT: usize = 8;

/// What is kept of keys, and until when it counts. At most so many are kept: for a
/// new one, a key of which nothing counts any more goes, else the one near the hand
/// that is there soonest.
#[derive(Debug)]
pub(in crate::limit) struct Table<S> {
    places: HashMap<u128, usize>,
    entries: Vec<Entry<S>>,
    capacity: usize,
    /// Where to look next for a key to forget.
    hand: usize,
}

#[derive(Debug)]
pub(in crate::limit) struct Entry<S> {
    pub(in crate::limit) key: u128,
    pub(in crate::limit) state: S,
    /// From then on nothing of it counts.
    pub(in crate::limit) over_at: i64,
}

// === impl Table ===

impl<S> Table<S> {
    pub(in crate::limit) fn new(capacity: usize) -> Self {
        Self {
            places: HashMap::new(),
            entries: Vec::new(),
            capacity,
            hand: 0,
        }
    }

    pub(in crate::limit) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(in crate::limit) fn get(&self, key: u128) -> Option<&S> {
        self.place(key).map(|place| self.at(place))
    }

    /// What still counts.
    pub(in crate::limit) fn live(&self, key: u128, now: i64) -> Option<&S> {
        let entry = &self.entries[self.place(key)?];
        (entry.over_at > now).then_some(&entry.state)
    }

    /// Where a key is, until the next change.
    pub(in crate::limit) fn place(&self, key: u128) -> Option<usize> {
        self.places.get(&key).copied()
    }

    pub(in crate::limit) fn at(&self, place: usize) -> &S {
        &self.entries[place].state
    }

    pub(in crate::limit) fn put(&mut self, entry: Entry<S>, now: i64) {
        match self.place(entry.key) {
            Some(place) => self.put_at(place, entry),
            None => self.add(entry, now),
        }
    }

    /// Where the same key is.
    pub(in crate::limit) fn put_at(&mut self, place: usize, entry: Entry<S>) {
        self.entries[place] = entry;
    }

    /// Of a key that is not there.
    pub(in crate::limit) fn add(&mut self, entry: Entry<S>, now: i64) {
        let key = entry.key;
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
    }

    pub(in crate::limit) fn remove(&mut self, key: u128) {
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
