//! What one thread has at hand, and what that may weigh.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::set::{Copied, Set, WAYS};
use crate::l1::engine::Probe;
use crate::l1::entry::Entry;

/// The most sets of a hand: what is looked at for a key that is not here is to stay in
/// the processor's own cache.
const SETS: u64 = 256;

/// A hand has a set for so much of its share: half of its ways, with small values.
const SHARE_OF_SET: u64 = 4 << 10;

/// The part of a hand's share that one copy weighs at most.
const ONE: u64 = 32;

/// On cache lines of its own.
#[repr(align(128))]
pub(super) struct Hand {
    /// There from the first look on.
    sets: OnceLock<Box<[Set]>>,
    /// How many there are: a power of two.
    count: u64,
    /// What all copies can weigh together.
    most: u64,
    /// What one of them can.
    most_each: u64,
    /// What they weigh.
    weight: AtomicU64,
    /// The set that makes room next.
    next: AtomicUsize,
}

// === impl Hand ===

impl Hand {
    /// One that takes so much of the budget at most.
    pub(super) fn new(share: u64) -> Self {
        let count = 1 << (share / SHARE_OF_SET).clamp(1, SETS).ilog2();
        Self {
            sets: OnceLock::new(),
            count,
            most: share.saturating_sub(count * Set::SIZE),
            most_each: share / ONE,
            weight: AtomicU64::new(0),
            next: AtomicUsize::new(0),
        }
    }

    /// The set of keys with this hash.
    #[inline]
    pub(super) fn set_of(&self, hash: u64) -> &Set {
        let sets = self.sets.get_or_init(|| {
            let sets = (0..self.count).map(|_| Set::default());
            sets.collect()
        });
        // By other bits than those that choose a stamp or a bucket of the engine.
        let at = (hash >> 8) & (self.count - 1);
        &sets[usize::try_from(at).expect("at most 256")]
    }

    /// Where a copy may be put in a set whose turn it is.
    #[cold]
    pub(super) fn room(&self, set: &Set) -> Option<usize> {
        if self.weight.load(Ordering::Relaxed) + self.most_each <= self.most {
            return set.room();
        }
        drop(self.take_idle());
        None
    }

    /// Keeps a copy, if it is not too heavy, and gives back what is not kept.
    pub(super) fn put(&self, set: &Set, way: usize, new: Copied) -> Option<Entry> {
        let weight = u64::from(new.entry.weight);
        if weight > self.most_each {
            return Some(new.entry);
        }
        self.weight.fetch_add(weight, Ordering::Relaxed);
        self.without(set.put(way, new))
    }

    /// Gives up what it has of a key.
    pub(super) fn forget(&self, probe: &Probe<'_>) -> impl Iterator<Item = Entry> {
        let set = self.sets.get().map(|_| self.set_of(probe.hash));
        set.into_iter().flat_map(move |set| {
            let ways = set.find_all(probe.hash);
            ways.filter_map(move |way| self.take_if(set, way, |it| it.key.is(probe)))
        })
    }

    /// Gives up what is `over`.
    pub(super) fn sweep(&self, over: impl Fn(&Entry) -> bool) {
        for set in self.sets.get().into_iter().flatten() {
            for way in 0..WAYS {
                drop(self.take_if(set, way, |it| over(&it.entry)));
            }
        }
    }

    #[cfg(test)]
    pub(super) fn weight(&self) -> u64 {
        self.weight.load(Ordering::Relaxed)
    }

    /// Gives up a copy of the next set that nobody used since this was asked before.
    fn take_idle(&self) -> Option<Entry> {
        let sets = self.sets.get()?;
        let set = &sets[self.next.fetch_add(1, Ordering::Relaxed) % sets.len()];
        let idle = (0..WAYS).filter(|&way| set.is_idle(way));
        // All are asked.
        idle.fold(None, |gone, way| {
            gone.or_else(|| self.take_if(set, way, |_| true))
        })
    }

    fn take_if(&self, set: &Set, way: usize, goes: impl Fn(&Copied) -> bool) -> Option<Entry> {
        self.without(set.take_if(way, goes))
    }

    fn without(&self, gone: Option<Entry>) -> Option<Entry> {
        if let Some(gone) = &gone {
            self.weight.fetch_sub(gone.weight.into(), Ordering::Relaxed);
        }
        gone
    }
}
