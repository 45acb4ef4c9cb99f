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
    hands: Box<[Hand]>,
    /// Copies weigh that much at most.
    most: u32,
}

/// What a thread has at hand, on cache lines of its own. What is looked at for a key that
/// is not here lies close together.
#[derive(Default)]
#[repr(align(128))]
struct Hand {
    /// The hash of what is there, for who only looks.
    hashes: [AtomicU64; PLACES],
    /// The hash of what was looked for last, and in its low bits how often in a row:
    /// xor, so that no hash is in the way.
    next: [AtomicU64; PLACES],
    copies: [Mutex<Option<Copied>>; PLACES],
}

struct Copied {
    key: NearKey,
    entry: Entry,
    /// When the engine is to be asked for it again, in ticks.
    ask_at: u64,
}

/// Whether a thread has a copy of a key.
pub(super) enum Found<'a> {
    /// Perhaps: of two keys with one hash another may be there.
    Here(Here<'a>),
    No,
    /// Not yet, and from now on it is to have one.
    Wanted,
}

/// The place of a copy.
pub(super) struct Here<'a> {
    hand: &'a Hand,
    at: usize,
}

// === impl Hot ===

impl Hot {
    /// For a process whose entries may weigh `budget`, and how much of it copies take at
    /// most: those of entries that the engine has lost.
    pub(super) fn new(budget: u64) -> (Self, u64) {
        let part = budget / PART;
        let most = part / (STRIPES * PLACES) as u64;
        let hot = Self {
            hands: (0..STRIPES).map(|_| Hand::default()).collect(),
            most: u32::try_from(most).unwrap_or(u32::MAX),
        };
        (hot, part)
    }

    /// Looks whether this thread has a copy.
    #[inline]
    pub(super) fn find(&self, hash: u64) -> Found<'_> {
        let (hand, at) = (self.own(), place_of(hash));
        if hand.hashes[at].load(Ordering::Relaxed) == hash {
            Found::Here(Here { hand, at })
        } else if hand.is_wanted(at, hash) {
            Found::Wanted
        } else {
            Found::No
        }
    }

    /// Keeps a copy for this thread, if it is not too heavy. The lock of the key's stamp
    /// is held.
    pub(super) fn keep(&self, key: NearKey, entry: Entry) -> Gone {
        if entry.weight > self.most {
            return Gone::new();
        }
        let (hand, at) = (self.own(), place_of(key.hash));
        let mut copy = hand.lock(at);
        hand.hashes[at].store(key.hash, Ordering::Relaxed);
        let ask_at = 0;
        let old = copy.replace(Copied { key, entry, ask_at });
        old.into_iter().map(|old| old.entry).collect()
    }

    /// Throws away what the threads have of a key. The lock of its stamp is held; what
    /// is gone is to be dropped after it, as a value may do anything when it is dropped.
    pub(super) fn forget(&self, probe: &Probe<'_>) -> Gone {
        let at = place_of(probe.hash);
        let there = |hand: &&Hand| hand.hashes[at].load(Ordering::Relaxed) == probe.hash;
        let hands = self.hands.iter().filter(there);
        let gone = hands.filter_map(|hand| hand.take_if(at, |it| it.key.is(probe)));
        gone.collect()
    }

    /// Drops what is `over`.
    pub(super) fn sweep(&self, over: impl Fn(&Entry) -> bool) {
        for hand in &self.hands {
            for at in 0..PLACES {
                drop(hand.take_if(at, |it| over(&it.entry)));
            }
        }
    }

    fn own(&self) -> &Hand {
        &self.hands[stripes::of_this_thread() % STRIPES]
    }
}

/// By other bits than those that choose a stamp or a bucket of the engine.
const fn place_of(hash: u64) -> usize {
    ((hash >> 8) % PLACES as u64) as usize
}

// === impl Here ===

impl Here<'_> {
    /// What `look` says, at `now`, of the copy. None without one, and if it is time to ask
    /// the engine.
    ///
    /// No lock of a stamp is to be taken in `look`.
    #[inline]
    pub(super) fn look<T>(
        &self,
        probe: &Probe<'_>,
        now: impl FnOnce() -> u64,
        look: impl FnOnce(&Entry, u64) -> Option<T>,
    ) -> Option<T> {
        let Self { hand, at } = *self;
        // Others are there for a moment only: a thread of the same stripe, or who forgets.
        let mut copy = hand.copies[at].try_lock().ok()?;
        let copy = copy.as_mut().filter(|it| it.key.is(probe))?;
        let now = now();
        if now >= copy.ask_at {
            copy.ask_at = now.saturating_add(ASK_EVERY);
            return None;
        }
        if hand.next[at].load(Ordering::Relaxed) != 0 {
            hand.next[at].store(0, Ordering::Relaxed);
        }
        look(&copy.entry, now)
    }
}

// === impl Hand ===

impl Hand {
    /// Notes that a key was looked for that is not here, and says whether it is its turn.
    #[inline]
    fn is_wanted(&self, at: usize, hash: u64) -> bool {
        let before = self.next[at].load(Ordering::Relaxed) ^ hash;
        let row = if before < IN_A_ROW { before + 1 } else { 1 };
        self.next[at].store(hash ^ row, Ordering::Relaxed);
        row == IN_A_ROW
    }

    fn take_if(&self, at: usize, goes: impl Fn(&Copied) -> bool) -> Option<Entry> {
        let mut copy = self.lock(at);
        let gone = copy.take_if(|it| goes(it))?;
        self.hashes[at].store(0, Ordering::Relaxed);
        Some(gone.entry)
    }

    fn lock(&self, at: usize) -> MutexGuard<'_, Option<Copied>> {
        self.copies[at]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
