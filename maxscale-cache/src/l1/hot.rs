//! What each thread has a copy of at hand, of the entries that it reads most: threads
//! that read the same entry do not wait for each other's reference counts, and a hit
//! goes to fewer places in memory than in an engine.
//!
//! A copy is the engine's entry itself, never a second value. [`L1`](super::L1) keeps to
//! three rules, and then nobody can tell that there are copies: it makes one of what the
//! engine has under the lock of the key's stamp; it [forgets](Hot::forget) those of a key
//! under the same lock before it changes anything of that key; and whoever finds that
//! the engine has lost an entry has the copies forgotten before he says so. Besides, a
//! thread asks the engine again every [`ASK_EVERY`], which so hears of what is read.
//!
//! Whether a copy may be served is asked of it like of any entry.

mod hand;
mod set;

use maxscale_core::stripes::{self, STRIPES};
use smallvec::SmallVec;

use self::hand::Hand;
use self::set::{Copied, Set};
use super::engine::{NearKey, Probe};
use super::entry::Entry;

/// How long a thread serves a copy without asking the engine, in ticks.
const ASK_EVERY: u64 = 10_000;

/// What the copies of all threads can weigh, as a part of the budget.
const PART: u64 = 16;

/// Entries that nobody has at hand any more.
pub(super) type Gone = SmallVec<[Entry; 1]>;

pub(super) struct Hot {
    hands: Box<[Hand]>,
}

/// Whether a thread has a copy of a key.
pub(super) enum Found<'a> {
    /// Perhaps: of two keys with much the same hash another may be there.
    Here(Place<'a>),
    No,
    /// Not yet, and from now on it is to have one.
    Wanted(Place<'a>),
}

/// The place of a copy.
pub(super) struct Place<'a> {
    hand: &'a Hand,
    set: &'a Set,
    way: usize,
}

// === impl Hot ===

impl Hot {
    /// For a process whose entries may weigh `budget`, and how much of it copies take at
    /// most: those of entries that the engine has lost.
    pub(super) fn new(budget: u64) -> (Self, u64) {
        let part = budget / PART;
        let share = part / STRIPES as u64;
        let hands = (0..STRIPES).map(|_| Hand::new(share)).collect();
        (Self { hands }, part)
    }

    /// Looks whether this thread has a copy.
    #[inline]
    pub(super) fn find(&self, hash: u64) -> Found<'_> {
        let hand = self.own();
        let set = hand.set_of(hash);
        let place = |way| Place { hand, set, way };
        if let Some(way) = set.find(hash) {
            return Found::Here(place(way));
        }
        if !set.is_turn() {
            return Found::No;
        }
        hand.room(set)
            .map_or(Found::No, |way| Found::Wanted(place(way)))
    }

    /// Throws away what the threads have of a key. The lock of its stamp is held; what
    /// is gone is to be dropped after it, as a value may do anything when it is dropped.
    pub(super) fn forget(&self, probe: &Probe<'_>) -> Gone {
        let hands = self.hands.iter();
        hands.flat_map(|hand| hand.forget(probe)).collect()
    }

    /// Drops what is `over`.
    pub(super) fn sweep(&self, over: impl Fn(&Entry) -> bool) {
        self.hands.iter().for_each(|hand| hand.sweep(&over));
    }

    fn own(&self) -> &Hand {
        &self.hands[stripes::of_this_thread() % STRIPES]
    }
}

// === impl Place ===

impl Place<'_> {
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
        self.set.look(self.way, |copy| {
            if !copy.key.is(probe) {
                return None;
            }
            let now = now();
            if now >= copy.ask_at {
                copy.ask_at = now.saturating_add(ASK_EVERY);
                return None;
            }
            look(&copy.entry, now)
        })
    }

    /// Keeps a copy here, if it is not too heavy. The lock of the key's stamp is held; what
    /// is given back is to be dropped after it.
    pub(super) fn keep(&self, key: NearKey, entry: Entry) -> Option<Entry> {
        let ask_at = 0;
        self.hand
            .put(self.set, self.way, Copied { entry, ask_at, key })
    }
}

#[cfg(test)]
mod tests;
