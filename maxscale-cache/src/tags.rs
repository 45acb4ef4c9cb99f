//! Tags, and what is known here of their generations.
//!
//! The fence of a tag's key in L2 is its generation: a value is good while the
//! fences of its tags are those from before its load. To hold that against
//! every read without a look into L2, each tag in use has a number here that
//! moves with whatever this process does to the tag or hears of it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::remote::Fence;

/// A tag in use.
#[derive(Debug)]
pub(crate) struct Tag {
    /// Its key in L2.
    pub(crate) key: Arc<str>,
    moves: AtomicU64,
    known: Mutex<Option<Known>>,
}

/// A tag as it was at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) tag: Arc<Tag>,
    moves: u64,
}

/// The fence of a tag, and how long it may be believed.
#[derive(Clone, Copy, Debug)]
struct Known {
    fence: Fence,
    moves: u64,
    epoch: u64,
    until: u64,
}

/// All tags in use, by key.
#[derive(Debug, Default)]
pub(crate) struct Tags(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    tags: HashMap<Arc<str>, Arc<Tag>>,
    /// With so many, those that nobody uses any more are let go.
    sweep_at: usize,
}

// === impl Tags ===

impl Tags {
    /// The tag whose key is `key`.
    pub(crate) fn get(&self, key: &str) -> Arc<Tag> {
        let mut table = self.table();
        if let Some(tag) = table.tags.get(key) {
            return tag.clone();
        }
        if table.tags.len() >= table.sweep_at {
            table.tags.retain(|_, tag| Arc::strong_count(tag) > 1);
            table.sweep_at = (table.tags.len() * 2).max(1_024);
        }
        let key: Arc<str> = key.into();
        let tag = Arc::new(Tag {
            key: key.clone(),
            moves: AtomicU64::new(0),
            known: Mutex::default(),
        });
        table.tags.insert(key, tag.clone());
        tag
    }

    /// Moves a tag, if anything here depends on it.
    pub(crate) fn move_on(&self, key: &str) {
        let tag = self.table().tags.get(key).cloned();
        if let Some(tag) = tag {
            tag.moves.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Tag ===

impl Tag {
    pub(crate) fn hold(self: &Arc<Self>) -> Held {
        Held {
            moves: self.moves.load(Ordering::SeqCst),
            tag: self.clone(),
        }
    }
}

// === impl Held ===

impl Held {
    /// Whether nobody moved the tag since.
    #[inline]
    pub(crate) fn is_current(&self) -> bool {
        self.tag.moves.load(Ordering::SeqCst) == self.moves
    }

    /// The fence in L2, if it is known what it was then.
    pub(crate) fn fence(&self, epoch: u64, now: u64) -> Option<Fence> {
        let known = (*self.known())?;
        let holds = known.moves == self.moves && known.epoch == epoch && now < known.until;
        holds.then_some(known.fence)
    }

    /// Notes what L2 told after the moment this was held.
    pub(crate) fn learn(&self, fence: Fence, epoch: u64, until: u64) {
        *self.known() = Some(Known {
            fence,
            moves: self.moves,
            epoch,
            until,
        });
    }

    fn known(&self) -> MutexGuard<'_, Option<Known>> {
        self.tag
            .known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_held_before_a_move_is_not_current_after_it() {
        let tags = Tags::default();
        let held = tags.get("t").hold();
        held.learn(Fence::new(1), 0, 100);
        assert_eq!(tags.get("t").hold().fence(0, 0), Some(Fence::new(1)));
        tags.move_on("t");
        assert!(!held.is_current());
        assert_eq!(tags.get("t").hold().fence(0, 0), None);
        // What was asked before the move says nothing of what is now.
        held.learn(Fence::new(1), 0, 100);
        assert_eq!(tags.get("t").hold().fence(0, 0), None);
    }

    #[test]
    fn fence_is_believed_for_its_time_and_epoch() {
        let held = Tags::default().get("t").hold();
        held.learn(Fence::new(1), 3, 100);
        assert_eq!(held.fence(3, 99), Some(Fence::new(1)));
        assert_eq!(held.fence(3, 100), None);
        assert_eq!(held.fence(4, 99), None);
    }

    #[test]
    fn tags_that_nobody_uses_are_let_go() {
        let tags = Tags::default();
        let kept = tags.get("kept").hold();
        for n in 0..10_000 {
            tags.get(&n.to_string());
        }
        assert!(tags.table().tags.len() <= 1_025);
        tags.move_on("kept");
        assert!(!kept.is_current());
    }
}
