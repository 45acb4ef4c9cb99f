//! The places of each key, and who holds them.

use std::collections::HashMap;
use std::collections::hash_map::{Entry, RandomState};
use std::fmt;
use std::hash::{BuildHasher as _, Hash};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Counted, Told};

/// So many tables, so that keys seldom wait for each other.
const TABLES: usize = 16;

pub(super) enum Places<K> {
    /// There is but one key.
    Whole(Arc<Semaphore>),
    Keyed(Arc<Keyed<K>>),
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
    places: Arc<Semaphore>,
    seat: Option<Seat<K>>,
}

/// One of a key's users.
struct Seat<K: Hash + Eq> {
    keyed: Arc<Keyed<K>>,
    key: K,
}

/// A place in a [`Bulkhead`](super::Bulkhead), until it is dropped.
#[must_use = "dropping it frees the place"]
pub struct BulkheadPermit<K: Hash + Eq = ()> {
    // In this order: the place is free before its key is forgotten.
    place: Option<OwnedSemaphorePermit>,
    _seat: Option<Seat<K>>,
    _active: Counted,
}

// === impl Places ===

impl<K: Hash + Eq + Clone> Places<K> {
    pub(super) fn keyed(each: usize, max_keys: usize) -> Self {
        Self::Keyed(Arc::new(Keyed {
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

    /// The places of `key`; none if there are too many other keys.
    pub(super) fn of(&self, key: &K) -> Option<Compartment<K>> {
        let keyed = match self {
            Self::Whole(places) => {
                return Some(Compartment {
                    places: places.clone(),
                    seat: None,
                });
            }
            Self::Keyed(keyed) => keyed,
        };
        let mut table = keyed.table(key);
        let places = match table.entry(key.clone()) {
            Entry::Occupied(mut there) => {
                there.get_mut().users += 1;
                there.get().places.clone()
            }
            Entry::Vacant(vacant) => {
                let room = |keys| (keys < keyed.max_keys).then_some(keys + 1);
                let (set, get) = (Ordering::Relaxed, Ordering::Relaxed);
                keyed.keys.fetch_update(set, get, room).ok()?;
                let places = Arc::new(Semaphore::new(keyed.each));
                let users = Users { places, users: 1 };
                vacant.insert(users).places.clone()
            }
        };
        drop(table);
        let (keyed, key) = (keyed.clone(), key.clone());
        let seat = Some(Seat { keyed, key });
        Some(Compartment { places, seat })
    }
}

// === impl Keyed ===

impl<K: Hash + Eq> Keyed<K> {
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
    pub(super) fn try_acquire(self, told: &Told) -> Result<BulkheadPermit<K>, Self> {
        match self.places.clone().try_acquire_owned() {
            Ok(place) => Ok(self.taken(place, told)),
            Err(_) => Err(self),
        }
    }

    /// None if there are no places any more, which is never.
    pub(super) async fn acquire(self, told: &Told) -> Option<BulkheadPermit<K>> {
        let place = self.places.clone().acquire_owned().await.ok()?;
        Some(self.taken(place, told))
    }

    fn taken(self, place: OwnedSemaphorePermit, told: &Told) -> BulkheadPermit<K> {
        BulkheadPermit {
            place: Some(place),
            _seat: self.seat,
            _active: Counted::on(&told.active),
        }
    }
}

// === impl Seat ===

impl<K: Hash + Eq> Drop for Seat<K> {
    fn drop(&mut self) {
        let mut table = self.keyed.table(&self.key);
        let Some(there) = table.get_mut(&self.key) else {
            return;
        };
        there.users -= 1;
        if there.users == 0 {
            table.remove(&self.key);
            self.keyed.keys.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

// === impl BulkheadPermit ===

impl<K: Hash + Eq> BulkheadPermit<K> {
    /// Of a dry run, which lets through what has none.
    pub(super) fn without_a_place(told: &Told) -> Self {
        Self {
            place: None,
            _seat: None,
            _active: Counted::on(&told.active),
        }
    }
}

impl<K: Hash + Eq> fmt::Debug for BulkheadPermit<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BulkheadPermit")
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}
