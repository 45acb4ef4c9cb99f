//! Tokens of very hot keys, apart for each thread: threads that ask for the same key
//! at once do not wait for each other.

use std::hash::Hash as _;
use std::hash::Hasher as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use tokio::time::Instant;

use super::{Held, MARGIN, Unspent};
use crate::limit::lease::{Chunk, Terms};
use crate::limit::table::Hashed;
use crate::limit::{Policy, Status};

/// Threads beyond these share one.
const STRIPES: usize = 16;

/// Hot keys of a thread. Two in one place take turns.
const PLACES: usize = 16;

thread_local! {
    /// Threads are numbered one after another.
    static STRIPE: usize = {
        let mut number = Hashed::default();
        thread::current().id().hash(&mut number);
        usize::try_from(number.finish() % STRIPES as u64).unwrap_or(0)
    };
}

pub(super) struct Stripes {
    /// Whether anything is held: else nobody looks.
    any: AtomicBool,
    places: Box<[Place]>,
}

/// On cache lines of its own.
#[repr(align(128))]
struct Place(Mutex<Option<Part>>);

struct Part {
    key: u64,
    held: Held<Chunk>,
}

// === impl Stripes ===

impl Stripes {
    pub(super) fn new() -> Self {
        let place = |_| Place(Mutex::default());
        Self {
            any: AtomicBool::new(false),
            places: (0..STRIPES * PLACES).map(place).collect(),
        }
    }

    /// Spends what this thread holds of a key.
    pub(super) fn spend(
        &self,
        key: u64,
        of: (&str, &Policy, &Terms),
        cost: u32,
        now: Instant,
    ) -> Option<Status> {
        if !self.any.load(Ordering::Relaxed) {
            return None;
        }
        let mut place = self.place(key);
        let part = place.as_mut().filter(|part| part.key == key)?;
        let (principal, policy, terms) = of;
        match part.held.is_of(principal, policy, terms) {
            true => part.held.lease.spend(cost, now),
            false => None,
        }
    }

    /// Whether this thread has a place for a key: another's may be there.
    pub(super) fn has_place(&self, key: u64, now: Instant) -> bool {
        let place = self.place(key);
        place
            .as_ref()
            .is_none_or(|part| part.key == key || part.held.lease.is_over(now))
    }

    pub(super) fn put(&self, key: u64, held: Held<Chunk>) -> Option<Unspent> {
        let mut place = self.place(key);
        let old = place.replace(Part { key, held });
        // Before the place is free, or who takes all could pass by it and say that there
        // is nothing.
        self.any.store(true, Ordering::Relaxed);
        drop(place);
        old.and_then(|mut old| {
            old.held
                .unspent_by(|chunk, _| chunk.take(Instant::now(), MARGIN))
        })
    }

    pub(super) fn forget(&self, key: u64) {
        for place in self.places.iter().skip(Self::of_key(key)).step_by(PLACES) {
            let mut place = place.lock();
            if place.as_ref().is_some_and(|part| part.key == key) {
                *place = None;
            }
        }
    }

    /// What `of` takes of each.
    pub(super) fn all(&self, of: impl Fn(&mut Chunk, &Terms, Instant) -> u32) -> Vec<Unspent> {
        if !self.any.swap(false, Ordering::Relaxed) {
            return Vec::new();
        }
        let (mut all, mut any) = (Vec::new(), false);
        for place in &self.places {
            let mut place = place.lock();
            let now = Instant::now();
            if let Some(part) = place.as_mut() {
                all.extend(part.held.unspent_by(|chunk, terms| of(chunk, terms, now)));
            }
            place.take_if(|part| part.held.lease.is_over(now));
            any |= place.is_some();
        }
        // What was put there meanwhile, in a place that was seen before, has said so.
        if any {
            self.any.store(true, Ordering::Relaxed);
        }
        all
    }

    fn place(&self, key: u64) -> MutexGuard<'_, Option<Part>> {
        let stripe = STRIPE.with(|stripe| *stripe);
        self.places[stripe * PLACES + Self::of_key(key)].lock()
    }

    #[expect(clippy::cast_possible_truncation, reason = "below 16")]
    const fn of_key(key: u64) -> usize {
        (key % PLACES as u64) as usize
    }
}

// === impl Place ===

impl Place {
    fn lock(&self) -> MutexGuard<'_, Option<Part>> {
        // Nothing panics while holding it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
