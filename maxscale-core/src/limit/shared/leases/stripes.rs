//! Tokens of very hot keys, apart for each thread: threads that ask for the same key
//! at once do not wait for each other.

use std::hash::{Hash as _, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use super::{Held, MARGIN, Unspent};
use crate::limit::Policy;
use crate::limit::lease::{Chunk, Left, Moment, Terms};

/// Threads beyond these share one.
const STRIPES: usize = 16;

/// Hot keys of a thread. Two in one place take turns.
const PLACES: usize = 16;

thread_local! {
    /// Threads are numbered one after another.
    static STRIPE: usize = {
        let mut number = Number(0);
        thread::current().id().hash(&mut number);
        usize::try_from(number.0 % STRIPES as u64).unwrap_or(0)
    };
}

/// What an id hands to its hasher: a number.
struct Number(u64);

pub(super) struct Stripes {
    /// Whether anything is held: else nobody looks.
    any: AtomicBool,
    places: Box<[Place]>,
}

/// On cache lines of its own.
#[repr(align(128))]
#[derive(Default)]
struct Place {
    /// Half of the key of the part that is there, for who only looks.
    half: AtomicU64,
    part: Mutex<Option<Part>>,
}

struct Part {
    key: u128,
    held: Held<Chunk>,
}

// === impl Number ===

impl Hasher for Number {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

// === impl Stripes ===

impl Stripes {
    pub(super) fn new() -> Self {
        Self {
            any: AtomicBool::new(false),
            places: (0..STRIPES * PLACES).map(|_| Place::default()).collect(),
        }
    }

    /// Spends what this thread holds of a key, at a time that is right for its end.
    pub(super) fn spend(
        &self,
        key: u128,
        (policy, terms): (&Policy, &Terms),
        cost: u32,
        at: impl FnOnce(Moment) -> Moment,
    ) -> Option<(Policy, Left)> {
        if !self.any.load(Ordering::Relaxed) {
            return None;
        }
        let place = self.place(key);
        if place.half.load(Ordering::Relaxed) != half(key) {
            return None;
        }
        let mut part = place.lock();
        let Part { held, .. } = part.as_mut().filter(|part| part.key == key)?;
        if !held.is_under(policy, terms) {
            return None;
        }
        let left = held.lease.spend(terms, cost, at(held.lease.end()))?;
        Some((held.policy.clone(), left))
    }

    /// Whether this thread has a place for a key: another's may be there.
    pub(super) fn has_place(&self, key: u128, now: Moment) -> bool {
        let part = self.place(key).lock();
        part.as_ref()
            .is_none_or(|part| part.key == key || part.held.lease.is_over(now))
    }

    pub(super) fn put(&self, key: u128, held: Held<Chunk>, now: Moment) -> Option<Unspent> {
        let place = self.place(key);
        let mut part = place.lock();
        place.half.store(half(key), Ordering::Relaxed);
        let old = part.replace(Part { key, held });
        // Before the place is free, or who takes all could pass by it and say that there
        // is nothing.
        self.any.store(true, Ordering::Relaxed);
        drop(part);
        old.and_then(|mut old| old.held.unspent_by(|chunk, _| chunk.take(now, MARGIN)))
    }

    pub(super) fn forget(&self, key: u128) {
        for place in self.places.iter().skip(Self::of_key(key)).step_by(PLACES) {
            place.lock().take_if(|part| part.key == key);
        }
    }

    /// What `of` takes of each.
    pub(super) fn all(
        &self,
        now: impl Fn() -> Moment,
        of: impl Fn(&mut Chunk, &Terms) -> u32,
    ) -> Vec<Unspent> {
        if !self.any.swap(false, Ordering::Relaxed) {
            return Vec::new();
        }
        let (mut all, mut any) = (Vec::new(), false);
        for place in &self.places {
            let mut part = place.lock();
            if let Some(part) = part.as_mut() {
                all.extend(part.held.unspent_by(&of));
            }
            part.take_if(|part| part.held.lease.is_over(now()));
            any |= part.is_some();
        }
        // What was put there meanwhile, in a place that was seen before, has said so.
        if any {
            self.any.store(true, Ordering::Relaxed);
        }
        all
    }

    fn place(&self, key: u128) -> &Place {
        let stripe = STRIPE.with(|stripe| *stripe);
        &self.places[stripe * PLACES + Self::of_key(key)]
    }

    const fn of_key(key: u128) -> usize {
        (key % PLACES as u128) as usize
    }
}

const fn half(key: u128) -> u64 {
    (key >> 64) as u64
}

// === impl Place ===

impl Place {
    fn lock(&self) -> MutexGuard<'_, Option<Part>> {
        // Nothing panics while holding it.
        self.part.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
