//! Users of whom the copies, or the rows, have yet to be told something.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use maxscale_core::id::Id;
use tokio::sync::Notify;

/// As many users as wait at most to have it noted that all was told. Beyond it that
/// is left to the sweep, which finds them in the rows.
const NOTED: usize = 10_000;

/// Users whose change is not done with. Those whose copy could not be dropped stay
/// until it was, however many they are.
#[derive(Debug, Default)]
pub(super) struct Pending {
    users: Mutex<HashMap<Id, Mark>>,
    /// There is something to do.
    pub(super) news: Notify,
}

/// What is known of a user, up to a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// Counts the changes here.
    nth: u64,
    /// Whether a copy may be older than the change, and so must not be read.
    stale: bool,
}

/// A change that is being made; noted when it is done with or given up.
#[derive(Debug)]
pub(super) struct Change<'p> {
    pending: &'p Pending,
    user: Id,
    stale: bool,
}

// === impl Pending ===

impl Pending {
    pub(super) fn begin(&self, user: Id) -> Change<'_> {
        Change {
            pending: self,
            user,
            stale: false,
        }
    }

    /// Whether a copy of this user's sessions may be one that was to be dropped.
    pub(super) fn is_stale(&self, user: Id) -> bool {
        self.users().get(&user).is_some_and(|mark| mark.stale)
    }

    /// All that waits.
    pub(super) fn all(&self) -> Vec<(Id, Mark)> {
        self.users()
            .iter()
            .map(|(user, mark)| (*user, *mark))
            .collect()
    }

    /// All that this mark knows of was told.
    pub(super) fn done(&self, user: Id, mark: Mark) {
        let mut users = self.users();
        if users.get(&user).is_some_and(|it| it.nth == mark.nth) {
            users.remove(&user);
        }
    }

    fn note(&self, user: Id, stale: bool) {
        let mut users = self.users();
        let full = users.len() >= NOTED;
        if full && !stale && !users.contains_key(&user) {
            return;
        }
        let mark = users.entry(user).or_insert(Mark {
            nth: 0,
            stale: false,
        });
        mark.nth += 1;
        mark.stale |= stale;
        drop(users);
        self.news.notify_one();
    }

    fn users(&self) -> MutexGuard<'_, HashMap<Id, Mark>> {
        // Nothing panics while holding it.
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Change ===

impl Change<'_> {
    pub(super) const fn user(&self) -> Id {
        self.user
    }

    /// The copy could not be dropped.
    pub(super) const fn left_a_copy(&mut self) {
        self.stale = true;
    }
}

impl Drop for Change<'_> {
    fn drop(&mut self) {
        self.pending.note(self.user, self.stale);
    }
}
