//! Invalidations that L2 has not confirmed yet.
//!
//! A key is marked *before* it is dropped from L1 and stays marked until L2
//! confirmed. While it is marked, this process neither reads nor fills it in
//! L2. The number of marks is bounded; what does not fit turns L2 off for as
//! long as an old value could live there.
//!
//! It sends nothing; [`far`](crate::far) does.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::message::{News, Subject};

/// A change that all processes have to hear of, and L2 first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    /// What is marked meanwhile: a key in L2, that of a value without its version.
    pub(crate) name: Arc<str>,
    pub(crate) target: Target,
}

/// What changes. Kinds, ids and tags are written as in keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Value {
        kind: Arc<str>,
        part: Arc<str>,
        /// Whether the old value may be served until there is a new one.
        soft: bool,
    },
    Tag {
        kind: Arc<str>,
        part: Arc<str>,
    },
    All {
        kind: Arc<str>,
    },
}

#[derive(Debug)]
pub(crate) struct Pending {
    limit: usize,
    state: Mutex<State>,
    /// Something is due.
    pub(crate) due: Notify,
}

/// An invalidation to send; confirmed or handed back exactly once.
///
/// Dropped unconfirmed (the caller gave up, the answer was an error), it
/// becomes due for another attempt.
#[derive(Debug)]
pub(crate) struct Mark<'a> {
    pending: &'a Pending,
    pub(crate) order: Order,
    /// `None` if there was no room to remember it.
    seq: Option<u64>,
    confirmed: bool,
}

#[derive(Debug, Default)]
struct State {
    next_seq: u64,
    marks: HashMap<Arc<str>, Entry>,
    off_until: Option<Instant>,
}

#[derive(Debug)]
struct Entry {
    /// The latest invalidation of the key; confirming it covers the earlier ones.
    seq: u64,
    order: Order,
    due: bool,
}

// === impl Order ===

impl Order {
    /// Takes in an earlier order of the same name that nobody confirmed.
    fn cover(&mut self, earlier: &Self) {
        if let (Target::Value { soft, .. }, Target::Value { soft: before, .. }) =
            (&mut self.target, &earlier.target)
        {
            *soft &= before;
        }
    }
}

// === impl Target ===

impl Target {
    /// What the others are told.
    pub(crate) fn news(&self) -> News<'_> {
        match self {
            Self::Value { kind, part, soft } => {
                let subject = Subject { kind, part };
                if *soft {
                    News::Stale(subject)
                } else {
                    News::Drop(subject)
                }
            }
            Self::Tag { kind, part } => News::Tag(Subject { kind, part }),
            Self::All { kind } => News::All(kind),
        }
    }
}

// === impl Pending ===

impl Pending {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            state: Mutex::default(),
            due: Notify::new(),
        }
    }

    /// Marks what `order` names. Without room for it, L2 is off for `off` from now.
    pub(crate) fn mark(&self, mut order: Order, off: Duration) -> Mark<'_> {
        let mut state = self.state();
        let full = state.marks.len() >= self.limit && !state.marks.contains_key(&order.name);
        let seq = if full {
            let until = Instant::now() + off;
            state.off_until = Some(state.off_until.map_or(until, |old| old.max(until)));
            None
        } else {
            state.next_seq += 1;
            let seq = state.next_seq;
            if let Some(earlier) = state.marks.get(&order.name) {
                order.cover(&earlier.order);
            }
            let entry = Entry {
                seq,
                order: order.clone(),
                due: false,
            };
            state.marks.insert(order.name.clone(), entry);
            Some(seq)
        };
        Mark {
            pending: self,
            order,
            seq,
            confirmed: false,
        }
    }

    /// Whether L2 must not be used for what is marked as `name`.
    pub(crate) fn bars(&self, name: &str) -> bool {
        let mut state = self.state();
        if let Some(until) = state.off_until {
            if Instant::now() < until {
                return true;
            }
            state.off_until = None;
        }
        state.marks.contains_key(name)
    }

    /// Takes all that is due; each becomes due again unless it is confirmed.
    pub(crate) fn take_due(&self) -> Vec<Mark<'_>> {
        let mut state = self.state();
        let due = state.marks.iter_mut().filter(|(_, entry)| entry.due);
        due.map(|(_, entry)| {
            entry.due = false;
            Mark {
                pending: self,
                order: entry.order.clone(),
                seq: Some(entry.seq),
                confirmed: false,
            }
        })
        .collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.state().marks.len()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Mark ===

impl Mark<'_> {
    /// L2 confirmed an attempt that was sent after the mark was made.
    pub(crate) fn confirm(mut self) {
        self.confirmed = true;
    }
}

impl Drop for Mark<'_> {
    fn drop(&mut self) {
        let Some(seq) = self.seq else { return };
        let mut state = self.pending.state();
        // A later invalidation of the key has a mark of its own.
        let Some(entry) = state
            .marks
            .get_mut(&self.order.name)
            .filter(|e| e.seq == seq)
        else {
            return;
        };
        if self.confirmed {
            state.marks.remove(&self.order.name);
        } else {
            entry.due = true;
            self.pending.due.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFF: Duration = Duration::from_secs(60);

    fn order(name: &str, soft: bool) -> Order {
        Order {
            name: name.into(),
            target: Target::Value {
                kind: "kind".into(),
                part: name.into(),
                soft,
            },
        }
    }

    fn hard(name: &str) -> Order {
        order(name, false)
    }

    #[test]
    fn mark_that_is_soft_does_not_soften_an_earlier_one() {
        let pending = Pending::new(10);
        drop(pending.mark(hard("k"), OFF));
        assert_eq!(pending.mark(order("k", true), OFF).order, hard("k"));
    }

    #[test]
    fn confirming_an_earlier_invalidation_leaves_the_later_one() {
        let pending = Pending::new(10);
        let first = pending.mark(hard("k"), OFF);
        let second = pending.mark(hard("k"), OFF);
        first.confirm();
        assert!(pending.bars("k"));
        second.confirm();
        assert!(!pending.bars("k"));
    }

    #[test]
    fn invalidation_given_up_is_due_until_confirmed() {
        let pending = Pending::new(10);
        drop(pending.mark(hard("k"), OFF));
        drop(pending.take_due());
        let mut due = pending.take_due();
        assert_eq!(due.len(), 1);
        assert!(pending.take_due().is_empty());
        due.remove(0).confirm();
        assert!(!pending.bars("k"));
        assert_eq!(pending.len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn overflow_turns_everything_off_for_a_while() {
        let pending = Pending::new(1);
        let kept = pending.mark(hard("a"), OFF);
        let lost = pending.mark(hard("b"), OFF);
        kept.confirm();
        lost.confirm();
        assert!(pending.bars("b") && pending.bars("unrelated"));
        tokio::time::advance(OFF).await;
        assert!(!pending.bars("b"));
    }
}
