//! What each thread keeps of very hot keys for itself: threads that ask for the same
//! key at once do not wait for each other.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::stripes::{self, STRIPES};

/// Hot keys of a thread. Two in one place take turns.
const PLACES: usize = 16;

/// A few keys of each thread, and what it keeps of them.
pub(super) struct Places<T> {
    /// Whether anything is kept: else nobody looks.
    any: AtomicBool,
    places: Box<[Place<T>]>,
}

/// On cache lines of its own.
#[repr(align(128))]
struct Place<T> {
    /// Half of the key of what is there, for who only looks.
    half: AtomicU64,
    kept: Mutex<Option<Kept<T>>>,
}

struct Kept<T> {
    key: u128,
    of_it: T,
}

// === impl Places ===

impl<T> Places<T> {
    pub(super) fn new() -> Self {
        Self {
            any: AtomicBool::new(false),
            places: (0..STRIPES * PLACES).map(|_| Place::new()).collect(),
        }
    }

    /// Does something with what this thread keeps of a key.
    #[inline]
    pub(super) fn with<A>(&self, key: u128, of: impl FnOnce(&mut T) -> Option<A>) -> Option<A> {
        if !self.any.load(Ordering::Relaxed) {
            return None;
        }
        let place = self.place(key);
        if place.half.load(Ordering::Relaxed) != half(key) {
            return None;
        }
        let mut kept = place.lock();
        let kept = kept.as_mut().filter(|kept| kept.key == key)?;
        of(&mut kept.of_it)
    }

    /// All that is kept, which then is not any more.
    pub(super) fn take_all(&self) -> Vec<T> {
        if !self.any.swap(false, Ordering::Relaxed) {
            return Vec::new();
        }
        let kept = self.places.iter().filter_map(|place| place.lock().take());
        kept.map(|kept| kept.of_it).collect()
    }

    /// Whether this thread has a place for a key: another's may be there, which is as
    /// good as gone if it is `over`.
    #[cfg(feature = "redis")]
    pub(super) fn has_room(&self, key: u128, over: impl FnOnce(&T) -> bool) -> bool {
        let kept = self.place(key).lock();
        kept.as_ref()
            .is_none_or(|kept| kept.key == key || over(&kept.of_it))
    }

    /// Keeps it for this thread, and gives back what was in its place.
    pub(super) fn put(&self, key: u128, of_it: T) -> Option<T> {
        let place = self.place(key);
        let mut kept = place.lock();
        place.half.store(half(key), Ordering::Relaxed);
        let old = kept.replace(Kept { key, of_it });
        // Before the place is free, or who looks at all could pass by it and say that
        // there is nothing.
        self.any.store(true, Ordering::Relaxed);
        drop(kept);
        old.map(|old| old.of_it)
    }

    /// Throws away what the threads keep of a key.
    #[cfg(feature = "redis")]
    pub(super) fn forget(&self, key: u128) {
        for place in self.places.iter().skip(Self::of_key(key)).step_by(PLACES) {
            drop(place.lock().take_if(|kept| kept.key == key));
        }
    }

    /// Shows all that is kept; what `stays` says no to is thrown away.
    #[cfg(feature = "redis")]
    pub(super) fn retain(&self, mut stays: impl FnMut(&mut T) -> bool) {
        if !self.any.swap(false, Ordering::Relaxed) {
            return;
        }
        let mut any = false;
        for place in &self.places {
            let mut kept = place.lock();
            kept.take_if(|kept| !stays(&mut kept.of_it));
            any |= kept.is_some();
        }
        // What was put there meanwhile, in a place that was seen before, has said so.
        if any {
            self.any.store(true, Ordering::Relaxed);
        }
    }

    fn place(&self, key: u128) -> &Place<T> {
        let stripe = stripes::of_this_thread();
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

impl<T> Place<T> {
    fn new() -> Self {
        Self {
            half: AtomicU64::new(0),
            kept: Mutex::new(None),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Kept<T>>> {
        // Nothing panics while holding it.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
