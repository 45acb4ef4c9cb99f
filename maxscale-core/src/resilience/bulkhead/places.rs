//! The places of each key, and who holds them.

use std::collections::HashMap;
use std::collections::hash_map::{Entry, RandomState};
use std::fmt;
use std::hash::{BuildHasher as _, Hash};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Semaphore, SemaphorePermit};

use super::Shared;

/// So many tables, so that keys seldom wait for each other.
const TABLES: usize = 16;

pub(super) enum Places<K> {
    /// There is but one key.
    Whole(Semaphore),
    // Boxed, for its tables are large.
    Keyed(Box<Keyed<K>>),
}

/// Keys that have requests: who holds a place or waits for one.
pub(super) struct Keyed<K> {
    each: usize,
    max_keys: usize,
    keys: AtomicUsize,
    hasher: RandomState,
    tables: [Mutex<HashMap<K, Users>>; TABLES],
}

struct Users {
    places: Arc<Semaphore>,
    users: usize,
}

/// The places of one key, which is known at least as long as this lives.
pub(super) struct Compartment<K: Hash + Eq> {
    bulkhead: Arc<Shared<K>>,
    seat: Option<Seat<K>>,
}

/// One of a key's users.
struct Seat<K> {
    places: Arc<Semaphore>,
    key: K,
}

/// A place in a [`Bulkhead`](super::Bulkhead), until it is dropped.
#[must_use = "dropping it frees the place"]
pub struct BulkheadPermit<K: Hash + Eq = ()> {
    compartment: Compartment<K>,
    /// Not so in a dry run, which lets through what has none.
    holds: bool,
}

// === impl Places ===

impl<K: Hash + Eq> Places<K> {
    pub(super) fn keyed(each: usize, max_keys: usize) -> Self {
        Self::Keyed(Box::new(Keyed {
            each,
            max_keys,
            keys: AtomicUsize::new(0),
            hasher: RandomState::new(),
            tables: std::array::from_fn(|_| Mutex::default()),
        }))
    }

    pub(super) fn keys(&self) -> usize {
        match self {
            Self::Whole(_) => 1,
            Self::Keyed(keyed) => keyed.keys.load(Ordering::Relaxed),
        }
    }
}

// === impl Keyed ===

impl<K: Hash + Eq> Keyed<K> {
    /// One user more of `key`'s places; none if there are too many other keys.
    fn sit(&self, key: &K) -> Option<Seat<K>>
    where
        K: Clone,
    {
        let mut table = self.table(key);
        let places = match table.entry(key.clone()) {
            Entry::Occupied(mut there) => {
                there.get_mut().users += 1;
                there.get().places.clone()
            }
            Entry::Vacant(vacant) => {
                let room = |keys| (keys < self.max_keys).then_some(keys + 1);
                let (set, get) = (Ordering::Relaxed, Ordering::Relaxed);
                self.keys.fetch_update(set, get, room).ok()?;
                let places = Arc::new(Semaphore::new(self.each));
                let users = Users { places, users: 1 };
                vacant.insert(users).places.clone()
            }
        };
        drop(table);
        let key = key.clone();
        Some(Seat { places, key })
    }

    fn leave(&self, seat: &Seat<K>) {
        let mut table = self.table(&seat.key);
        let Some(there) = table.get_mut(&seat.key) else {
            return;
        };
        there.users -= 1;
        if there.users == 0 {
            table.remove(&seat.key);
            self.keys.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn table(&self, key: &K) -> MutexGuard<'_, HashMap<K, Users>> {
        let tables = u64::try_from(TABLES).unwrap_or(1);
        let place = usize::try_from(self.hasher.hash_one(key) % tables).unwrap_or(0);
        // Counts are changed whole; a panic of a key's `Eq` tears nothing.
        let table = self.tables[place].lock();
        table.unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Compartment ===

impl<K: Hash + Eq> Compartment<K> {
    /// The places of `key`; none if there are too many other keys.
    pub(super) fn of(bulkhead: &Arc<Shared<K>>, key: &K) -> Option<Self>
    where
        K: Clone,
    {
        let seat = match &bulkhead.places {
            Places::Whole(_) => None,
            Places::Keyed(keyed) => Some(keyed.sit(key)?),
        };
        let bulkhead = bulkhead.clone();
        Some(Self { bulkhead, seat })
    }

    pub(super) fn try_acquire(self) -> Result<BulkheadPermit<K>, Self> {
        let place = self.places().and_then(|places| places.try_acquire().ok());
        match place.map(SemaphorePermit::forget) {
            Some(()) => Ok(BulkheadPermit::new(self, true)),
            None => Err(self),
        }
    }

    /// None if there are no places any more, which is never.
    pub(super) async fn acquire(self) -> Option<BulkheadPermit<K>> {
        self.places()?.acquire().await.ok()?.forget();
        Some(BulkheadPermit::new(self, true))
    }

    fn places(&self) -> Option<&Semaphore> {
        match (&self.bulkhead.places, &self.seat) {
            (Places::Whole(places), _) => Some(places),
            (Places::Keyed(_), seat) => seat.as_ref().map(|seat| &*seat.places),
        }
    }
}

impl<K: Hash + Eq> Drop for Compartment<K> {
    fn drop(&mut self) {
        if let (Places::Keyed(keyed), Some(seat)) = (&self.bulkhead.places, &self.seat) {
            keyed.leave(seat);
        }
    }
}

// === impl BulkheadPermit ===

impl<K: Hash + Eq> BulkheadPermit<K> {
    /// Of a dry run, which lets through what has no place.
    pub(super) fn without_a_place(bulkhead: &Arc<Shared<K>>) -> Self {
        let bulkhead = bulkhead.clone();
        let nowhere = Compartment {
            bulkhead,
            seat: None,
        };
        Self::new(nowhere, false)
    }

    fn new(compartment: Compartment<K>, holds: bool) -> Self {
        compartment.bulkhead.told.active.add(1);
        Self { compartment, holds }
    }
}

impl<K: Hash + Eq> Drop for BulkheadPermit<K> {
    fn drop(&mut self) {
        // The place is free before its key is forgotten, with the compartment.
        if let Some(places) = self.compartment.places().filter(|_| self.holds) {
            places.add_permits(1);
        }
        self.compartment.bulkhead.told.active.add(-1);
    }
}

impl<K: Hash + Eq> fmt::Debug for BulkheadPermit<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BulkheadPermit")
            .field("bulkhead", &self.compartment.bulkhead.name)
            .field("holds", &self.holds)
            .finish_non_exhaustive()
    }
}
