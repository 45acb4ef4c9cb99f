//! Copies whose keys have one place, and which key gets in.
//!
//! Nothing is counted per key. Each sixteenth look for a key that is not here is a turn:
//! the key that happens to be looked for gets a free way, or that of a copy which nobody
//! used since a turn came by. So what is read most gets in soon and stays, and of many
//! values that are read in turn few are copied. That is the bimodal insertion of Qureshi
//! and others, "Adaptive insertion policies for high performance caching" (ISCA 2007),
//! with a clock to choose who goes.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use crate::l1::engine::NearKey;
use crate::l1::entry::Entry;

/// How many copies a set has at most.
pub(super) const WAYS: usize = 8;

/// One of so many looks for keys that are not here is a turn.
pub(super) const TURN: u8 = 16;

/// The tag of a way without a copy.
const FREE: u32 = 0;

/// A place. What is looked at for a key that is not here is one cache line.
#[derive(Default)]
#[repr(align(64))]
pub(super) struct Set {
    /// A part of the hash of each copy's key.
    tags: [AtomicU32; WAYS],
    /// Which copies were used since a turn came by.
    used: [AtomicBool; WAYS],
    /// Looks for keys that are not here.
    looks: AtomicU8,
    /// There from the first copy on.
    copies: OnceLock<Box<[Slot; WAYS]>>,
}

/// A hit looks at one cache line of it if the key is short, else at two.
#[derive(Default)]
#[repr(align(64))]
struct Slot(Mutex<Option<Copied>>);

#[repr(C)]
pub(super) struct Copied {
    pub(super) entry: Entry,
    /// When the engine is to be asked for it again, in ticks.
    pub(super) ask_at: u64,
    pub(super) key: NearKey,
}

// === impl Set ===

impl Set {
    /// The bytes of a set and its ways.
    pub(super) const SIZE: u64 = (size_of::<Self>() + size_of::<[Slot; WAYS]>()) as u64;

    /// Where the copy of a key with this hash is, or of another that is much like it.
    #[inline]
    pub(super) fn find(&self, hash: u64) -> Option<usize> {
        self.way_of(tag_of(hash))
    }

    /// All such places: threads that share a hand may have put it there twice.
    pub(super) fn find_all(&self, hash: u64) -> impl Iterator<Item = usize> {
        let tag = tag_of(hash);
        (0..WAYS).filter(move |&way| self.tags[way].load(Ordering::Relaxed) == tag)
    }

    /// Notes a look for a key that is not here, and says whether it is a turn.
    #[inline]
    pub(super) fn is_turn(&self) -> bool {
        let looks = self.looks.load(Ordering::Relaxed).wrapping_add(1);
        self.looks.store(looks, Ordering::Relaxed);
        looks.is_multiple_of(TURN)
    }

    /// A free way, or that of a copy that nobody used. Each turn looks at the next one.
    pub(super) fn room(&self) -> Option<usize> {
        let next = usize::from(self.looks.load(Ordering::Relaxed) / TURN) % WAYS;
        let free = self.way_of(FREE);
        free.or_else(|| self.is_idle(next).then_some(next))
    }

    /// Whether nobody used a copy since this was asked before.
    pub(super) fn is_idle(&self, way: usize) -> bool {
        !self.used[way].swap(false, Ordering::Relaxed)
    }

    /// What `look` says of a copy, which counts as used if that is anything.
    #[inline]
    pub(super) fn look<T>(
        &self,
        way: usize,
        look: impl FnOnce(&mut Copied) -> Option<T>,
    ) -> Option<T> {
        // Others are there for a moment only: a thread of the same stripe, or who forgets.
        let mut copy = self.copies.get()?[way].0.try_lock().ok()?;
        let seen = look(copy.as_mut()?)?;
        let used = &self.used[way];
        if !used.load(Ordering::Relaxed) {
            used.store(true, Ordering::Relaxed);
        }
        Some(seen)
    }

    /// Keeps a copy, and gives back what it takes the place of.
    pub(super) fn put(&self, way: usize, new: Copied) -> Option<Entry> {
        let mut copy = lock(&self.copies.get_or_init(Box::default)[way]);
        self.tags[way].store(tag_of(new.key.hash), Ordering::Relaxed);
        copy.replace(new).map(|old| old.entry)
    }

    /// Gives up a copy if it `goes`.
    pub(super) fn take_if(&self, way: usize, goes: impl Fn(&Copied) -> bool) -> Option<Entry> {
        let mut copy = lock(&self.copies.get()?[way]);
        let gone = copy.take_if(|it| goes(it))?;
        self.tags[way].store(FREE, Ordering::Relaxed);
        Some(gone.entry)
    }

    /// All are compared, without a branch for each.
    #[inline]
    fn way_of(&self, tag: u32) -> Option<usize> {
        let from_last = self.tags.iter().rev();
        let ways = from_last.fold(0_u32, |ways, it| {
            ways << 1 | u32::from(it.load(Ordering::Relaxed) == tag)
        });
        (ways != 0).then(|| ways.trailing_zeros() as usize)
    }
}

fn lock(slot: &Slot) -> MutexGuard<'_, Option<Copied>> {
    slot.0.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Never [`FREE`]. Of other bits than the place of the set.
const fn tag_of(hash: u64) -> u32 {
    (hash >> 32) as u32 | 1
}
