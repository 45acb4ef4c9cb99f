//! What each thread has a copy of at hand, of the entries that it reads most: threads
//! that read the same entry do not wait for each other's reference counts.
//!
//! A copy is the engine's entry itself, never a second value. [`L1`](super::L1) keeps to
//! three rules, and then nobody can tell that there are copies: it makes one of what the
//! engine has under the lock of the key's stamp; it [forgets](Hot::forget) those of a key
//! under the same lock before it changes anything of that key; and whoever finds that
//! the engine has lost an entry has the copies forgotten before he says so. Besides, a
//! thread asks the engine again every [`ASK_EVERY`], which so hears of what is read.
//!
//! Whether a copy may be served is asked of it like of any entry.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use maxscale_core::stripes::{self, STRIPES};
use smallvec::SmallVec;

use super::engine::{NearKey, Probe};
use super::entry::Entry;

/// Keys of a thread. Two in one place take turns.
const PLACES: usize = 16;

/// A key gets the place that it was looked for so often in a row.
const IN_A_ROW: u64 = 8;

/// How long a thread serves a copy without asking the engine, in ticks.
const ASK_EVERY: u64 = 10_000;

/// What the copies of all threads can weigh, as a part of the budget.
const PART: u64 = 32;

/// Entries that nobody has at hand any more.
pub(super) type Gone = SmallVec<[Entry; 1]>;

pub(super) struct Hot {
    /// Those that a key can be in lie together, one of each thread.
    places: Box<[Place]>,
    /// Copies weigh that much at most.
    most: u32,
}

/// A place of a thread, on cache lines of its own.
#[repr(align(128))]
#[derive(Default)]
struct Place {
    /// The hash of what is there, for who only looks.
    hash: AtomicU64,
    /// The hash of what was looked for last, its low bits how often in a row.
    next: AtomicU64,
    copy: Mutex<Option<Copied>>,
}

struct Copied {
    key: NearKey,
    entry: Entry,
    /// When the engine is to be asked for it again, in ticks.
    ask_at: u64,
}

// === impl Hot ===

impl Hot {
    /// For a process whose entries may weigh `budget`, and how much of it copies take at
    /// most: those of entries that the engine has lost.
    pub(super) fn new(budget: u64) -> (Self, u64) {
        let places = STRIPES * PLACES;
        let part = budget / PART;
        let most = part / places as u64;
        let hot = Self {
            places: (0..places).map(|_| Place::default()).collect(),
            most: u32::try_from(most).unwrap_or(u32::MAX),
        };
        (hot, part)
    }

    /// What `look` says, at `now`, of this thread's copy. None without one, and if it is time to
    /// ask the engine.
    ///
    /// No lock of a stamp is to be taken in `look`.
    #[inline]
    pub(super) fn look<T>(
        &self,
        probe: &Probe<'_>,
        now: impl FnOnce() -> u64,
        look: impl FnOnce(&Entry, u64) -> Option<T>,
    ) -> Option<T> {
        let place = self.place(probe.hash);
        if place.hash.load(Ordering::Relaxed) != probe.hash {
            return None;
        }
        // Others are there for a moment only: a thread of the same stripe, or who forgets.
        let mut copy = place.copy.try_lock().ok()?;
        let copy = copy.as_mut().filter(|it| it.key.is(probe))?;
        let now = now();
        if now >= copy.ask_at {
            copy.ask_at = now.saturating_add(ASK_EVERY);
            return None;
        }
        if place.next.load(Ordering::Relaxed) != 0 {
            place.next.store(0, Ordering::Relaxed);
        }
        look(&copy.entry, now)
    }

    /// Notes that the engine was asked for a key and has an entry of this weight, and
    /// says whether this thread is to have a copy.
    #[inline]
    pub(super) fn wants(&self, probe: &Probe<'_>, weight: u32) -> bool {
        let place = self.place(probe.hash);
        let next = place.next.load(Ordering::Relaxed);
        let row = if next & !(IN_A_ROW - 1) == probe.hash & !(IN_A_ROW - 1) {
            next % IN_A_ROW + 1
        } else {
            1
        };
        if row < IN_A_ROW {
            let next = (probe.hash & !(IN_A_ROW - 1)) | row;
            place.next.store(next, Ordering::Relaxed);
            return false;
        }
        place.next.store(0, Ordering::Relaxed);
        weight <= self.most && place.hash.load(Ordering::Relaxed) != probe.hash
    }

    /// Keeps a copy for this thread. The lock of the key's stamp is held.
    pub(super) fn keep(&self, key: NearKey, entry: Entry) -> Gone {
        let place = self.place(key.hash);
        let mut copy = place.lock();
        place.hash.store(key.hash, Ordering::Relaxed);
        let ask_at = 0;
        let old = copy.replace(Copied { key, entry, ask_at });
        old.into_iter().map(|old| old.entry).collect()
    }

    /// Throws away what the threads have of a key. The lock of its stamp is held; what
    /// is gone is to be dropped after it, as a value may do anything when it is dropped.
    pub(super) fn forget(&self, probe: &Probe<'_>) -> Gone {
        let mine = Self::places_of(probe.hash);
        let there = |place: &&Place| place.hash.load(Ordering::Relaxed) == probe.hash;
        let places = self.places[mine..mine + STRIPES].iter().filter(there);
        let gone = places.filter_map(|place| place.take_if(|it| it.key.is(probe)));
        gone.collect()
    }

    /// Drops what is `over`.
    pub(super) fn sweep(&self, over: impl Fn(&Entry) -> bool) {
        for place in &self.places {
            drop(place.take_if(|it| over(&it.entry)));
        }
    }

    fn place(&self, hash: u64) -> &Place {
        &self.places[Self::places_of(hash) + stripes::of_this_thread()]
    }

    fn places_of(hash: u64) -> usize {
        // Other bits than those that choose a stamp or a bucket of the engine.
        usize::try_from(hash >> 8).unwrap_or(usize::MAX) % PLACES * STRIPES
    }
}

// === impl Place ===

impl Place {
    fn take_if(&self, goes: impl Fn(&Copied) -> bool) -> Option<Entry> {
        let mut copy = self.lock();
        let gone = copy.take_if(|it| goes(it))?;
        self.hash.store(0, Ordering::Relaxed);
        Some(gone.entry)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Copied>> {
        self.copy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
