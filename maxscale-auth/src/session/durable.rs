//! What a store must do beyond that, so that a copy can stand before it.

use std::future::Future;

use maxscale_core::id::Id;

use super::record::{Session, Standing};
use super::store::SessionStore;

/// Keeps sessions for good, and knows which of its changes a copy was not told of.
///
/// Each change of a user's sessions or roles counts [`Standing::changes`] up in the
/// same step. What was counted and not [`told`](Self::told) is found by
/// [`untold`](Self::untold), whatever became of the process that made the change.
pub trait DurableSessions: SessionStore {
    /// All of the user's sessions that live, and what they share, of one moment: of
    /// no copy that may lag behind.
    fn snapshot(&self, user: Id) -> impl Future<Output = Result<Snapshot, Self::Error>> + Send;

    /// Users of whom a copy was not told all, in order of their ids: the first
    /// `limit` that come after `after`. What cannot be reached is left out.
    fn untold(
        &self,
        after: Option<Id>,
        limit: u32,
    ) -> impl Future<Output = Result<Vec<Untold>, Self::Error>> + Send;

    /// Notes that all copies know of the user's changes up to this number.
    fn told(&self, it: Untold) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

/// A user's sessions, of one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "stores make it")]
pub struct Snapshot {
    /// What they share; of a user who is not known, nothing.
    pub standing: Standing,
    /// Those that live.
    pub sessions: Vec<Session>,
}

/// A user of whom a copy may not know all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "stores make it")]
pub struct Untold {
    /// Who.
    pub user: Id,
    /// How many changes there were.
    pub changes: u64,
}
