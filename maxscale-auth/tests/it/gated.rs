//! Rows whose reader may be made to stand still after he has read.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use maxscale_auth::session::{
    Created, DurableSessions, Listed, NewSession, Reach, Revoked, Roles, Rotation, Session,
    SessionStore, Snapshot, SqlSessions, Standing, Touch, Untold, Which, Why,
};
use maxscale_core::id::Id;
use maxscale_shard::ShardError;
use tokio::sync::watch;

#[derive(Clone, Debug)]
pub(crate) struct Gated {
    rows: SqlSessions,
    open: watch::Sender<bool>,
    waiting: Arc<AtomicU32>,
}

// === impl Gated ===

impl Gated {
    pub(crate) fn new(rows: SqlSessions) -> Self {
        Self {
            rows,
            open: watch::Sender::new(true),
            waiting: Arc::default(),
        }
    }

    pub(crate) fn close(&self) {
        self.open.send_replace(false);
    }

    pub(crate) fn open(&self) {
        self.open.send_replace(true);
    }

    /// How many have read and stand still.
    pub(crate) fn waiting(&self) -> u32 {
        self.waiting.load(Ordering::SeqCst)
    }
}

impl DurableSessions for Gated {
    async fn snapshot(&self, user: Id) -> Result<Snapshot, ShardError> {
        let snapshot = self.rows.snapshot(user).await;
        self.waiting.fetch_add(1, Ordering::SeqCst);
        self.open.subscribe().wait_for(|open| *open).await.unwrap();
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        snapshot
    }

    async fn untold(&self, _after: Option<Id>, _limit: u32) -> Result<Vec<Untold>, ShardError> {
        Ok(Vec::new())
    }

    async fn told(&self, it: Untold) -> Result<(), ShardError> {
        self.rows.told(it).await
    }
}

impl SessionStore for Gated {
    type Error = ShardError;

    async fn create(&self, new: &NewSession<'_>, most: NonZeroU32) -> Result<Created, ShardError> {
        self.rows.create(new, most).await
    }

    async fn load(&self, user: Id, id: Id) -> Result<Option<(Session, Standing)>, ShardError> {
        self.rows.load(user, id).await
    }

    async fn touch(&self, touches: &[Touch]) -> Result<(), ShardError> {
        self.rows.touch(touches).await
    }

    async fn rotate(&self, user: Id, id: Id, rotation: &Rotation) -> Result<bool, ShardError> {
        self.rows.rotate(user, id, rotation).await
    }

    async fn revoke(&self, user: Id, which: Which, why: Why) -> Result<Revoked, ShardError> {
        self.rows.revoke(user, which, why).await
    }

    async fn list(&self, user: Id) -> Result<Vec<Listed>, ShardError> {
        self.rows.list(user).await
    }

    async fn set_roles(&self, user: Id, roles: &Roles) -> Result<Reach, ShardError> {
        self.rows.set_roles(user, roles).await
    }

    async fn changed(&self, user: Id) -> Result<Reach, ShardError> {
        self.rows.changed(user).await
    }
}
