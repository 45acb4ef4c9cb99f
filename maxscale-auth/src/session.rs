//! Sessions: rows in the user's shard, and the layer that asks for them.
//!
//! A session is valid while its row is there and its times allow. Revoking
//! deletes the row, so nothing that was cached or lost elsewhere can bring a
//! session back: there is no second copy.

mod layer;
mod sql;

use std::future::Future;
use std::time::Duration;

use maxscale_core::clock::Timestamp;
use maxscale_core::id::Id;

pub use layer::{SessionFuture, SessionLayer, SessionService};
pub use sql::SqlSessions;

/// How long a session lasts without a request.
pub const IDLE: Duration = Duration::from_secs(30 * 24 * 3600);
/// How long a session lasts at most.
pub const ABSOLUTE: Duration = Duration::from_secs(90 * 24 * 3600);
/// How stale `last_seen` may be: one write per session and hour, not per request.
pub const TOUCH_EVERY: Duration = Duration::from_secs(3600);

/// A session as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Whose it is.
    pub user: Id,
    /// Its own id.
    pub id: Id,
    /// SHA-256 of the token's secret.
    pub secret_hash: [u8; 32],
    /// When it began.
    pub created_at: Timestamp,
    /// Its last request, up to [`TOUCH_EVERY`] ago.
    pub last_seen: Timestamp,
}

/// Keeps sessions. Every method is one atomic step.
pub trait SessionStore: Clone + Send + Sync + 'static {
    /// Why the store could not answer.
    type Error: std::error::Error + Send + Sync + 'static;

    /// The session, if it is there.
    fn load(
        &self,
        user: Id,
        session: Id,
    ) -> impl Future<Output = Result<Option<Session>, Self::Error>> + Send;

    /// Moves `last_seen` forward, if the session is still there. Never creates one.
    fn touch(
        &self,
        user: Id,
        session: Id,
        now: Timestamp,
    ) -> impl Future<Output = Result<bool, Self::Error>> + Send;

    /// Ends the session; true if it was there.
    fn revoke(
        &self,
        user: Id,
        session: Id,
    ) -> impl Future<Output = Result<bool, Self::Error>> + Send;
}

// === impl Session ===

impl Session {
    /// Whether the session's times still allow it at `now`.
    pub fn is_live(&self, now: Timestamp) -> bool {
        now.since(self.last_seen) < IDLE && now.since(self.created_at) < ABSOLUTE
    }

    /// Whether `last_seen` is old enough to be written again.
    pub fn wants_touch(&self, now: Timestamp) -> bool {
        now.since(self.last_seen) >= TOUCH_EVERY
    }
}
