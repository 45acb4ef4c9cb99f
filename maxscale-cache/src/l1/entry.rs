//! A value in this process, and whether it may be served.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use smallvec::SmallVec;

use crate::remote::Fence;
use crate::tags::Held;

pub(crate) type AnyValue = Arc<dyn Any + Send + Sync>;

/// Entries are shared: who looks at one keeps it, though it was dropped.
pub(crate) type Entry = Arc<Kept>;

/// One value, or the knowledge that there is none. Moments are ticks.
///
/// What each hit reads comes first, so that it is in as few cache lines as it can be.
#[repr(C)]
pub(crate) struct Kept {
    /// `None` says that there is no such value.
    pub(crate) value: Option<AnyValue>,
    /// Until when it is served without a thought.
    pub(crate) fresh_until: u64,
    /// Until when it is better than nothing.
    pub(crate) stale_until: u64,
    /// When it was last known that nobody had dropped it.
    pub(crate) known: AtomicU64,
    /// The epoch of that knowledge.
    pub(crate) epoch: AtomicU64,
    /// Nearly always one, that of the kind.
    pub(crate) tags: SmallVec<[Held; 1]>,
    /// Whether somebody asked for it to be loaded again.
    pub(crate) spoiled: AtomicBool,
    /// How long its load took, in microseconds.
    pub(crate) cost: u32,
    pub(crate) weight: u32,
    /// What it was stored under in L2; `None` if L2 had no part in it.
    pub(crate) fence: Option<Fence>,
    /// When it was loaded, by the clock of L2.
    pub(crate) since: u64,
    /// The tick at which this process began to load it, 0 if another did.
    pub(crate) begun: u64,
    /// By when its load had ended, at the latest, by the clock of L2.
    pub(crate) loaded: u64,
}

/// How far what is in this process can be believed now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trust {
    pub(crate) epoch: u64,
    pub(crate) now: u64,
    /// Until when every drop of the others is heard.
    pub(crate) until: u64,
    /// How long a value is believed all the same.
    pub(crate) grace: u64,
    /// How long it is believed at most.
    pub(crate) l1_ttl: u64,
}

/// What an entry is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// To be served.
    Fresh,
    /// True, but due to be loaded again: to be served if the cache says so.
    Stale,
    /// Somebody may have dropped it: L2 has to be asked first.
    Suspect,
    /// Dropped with a tag, or too old for anything.
    Dead,
}

// === impl Kept ===

impl Kept {
    #[inline]
    pub(crate) fn state(&self, trust: &Trust) -> State {
        if self.is_over(trust.now) || !self.tags.iter().all(Held::is_current) {
            return State::Dead;
        }
        let known = self.known.load(Ordering::SeqCst);
        let heard = trust.now <= trust.until || trust.now < known.saturating_add(trust.grace);
        let believed = self.epoch.load(Ordering::SeqCst) == trust.epoch
            && heard
            && trust.now < known.saturating_add(trust.l1_ttl);
        if !believed {
            State::Suspect
        } else if trust.now < self.fresh_until && !self.spoiled.load(Ordering::SeqCst) {
            State::Fresh
        } else {
            State::Stale
        }
    }

    /// Whether a value that is not fresh may be served, if one may do so for
    /// `window` after it was.
    pub(crate) const fn serves_for(&self, window: u64, now: u64) -> bool {
        window > 0 && now < self.fresh_until.saturating_add(window)
    }

    /// Notes that L2 had no drop of it at `known`, asked in `epoch`.
    pub(crate) fn confirm(&self, epoch: u64, known: u64) {
        self.known.fetch_max(known, Ordering::SeqCst);
        self.epoch.fetch_max(epoch, Ordering::SeqCst);
    }

    /// Whether a value from L2, stored under `fence` and loaded at `since`, is this
    /// one or was read from the source later.
    pub(crate) fn may_be_followed_by(&self, fence: Fence, since: u64) -> bool {
        // The fence moved after this one was stored, and before that one's load.
        let is_later = |mine: Fence| fence.lineage() == mine.lineage() && fence.get() > mine.get();
        self.is(fence, since) || since >= self.loaded || self.fence.is_some_and(is_later)
    }

    /// Whether it is what was stored under `fence` and loaded at `since`.
    pub(crate) fn is(&self, fence: Fence, since: u64) -> bool {
        self.fence == Some(fence) && self.since == since
    }

    /// Whether it is of no use to anybody any more, but for its tags.
    pub(crate) const fn is_over(&self, now: u64) -> bool {
        now >= self.stale_until
    }

    /// Makes it stale.
    pub(crate) fn spoil(&self) {
        self.spoiled.store(true, Ordering::SeqCst);
    }
}
