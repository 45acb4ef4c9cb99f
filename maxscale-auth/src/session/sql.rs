//! Sessions as rows of their user's shard.

mod row;
mod statement;
mod succeed;
pub(crate) mod touch;

use std::num::NonZeroU32;

use maxscale_core::Chain;
use maxscale_core::clock::{Clock, Timestamp};
use maxscale_core::id::Id;
use maxscale_shard::{Node, Router, Row, Shard, ShardError, Sql, Statement, Tx};
use uuid::Uuid;

use super::durable::{DurableSessions, Snapshot, Untold};
use super::record::{Roles, Session, Standing};
use super::store::{
    Created, Listed, NewSession, Reach, Revoked, Rotation, SessionStore, Touch, Which, Why,
};
use row::{changes, ids, listed, session, standing};
use statement::{
    CHANGED, INSERT, LIST, LOAD, REVOKE_ALL, REVOKE_BEYOND, REVOKE_ONE, REVOKE_OTHERS, ROLES,
    ROTATE, SNAPSHOT, SWEEP, TOLD, UNTOLD,
};
pub(super) use succeed::Succeeded;

/// Sessions as rows of `ms_session` in the user's shard. Cheap to clone.
///
/// A revoked session's row stays as a tombstone until the session would have ended;
/// then [`sweep`](Self::sweep) may delete it.
#[derive(Clone, Debug)]
pub struct SqlSessions {
    router: Router,
    clock: Clock,
}

// === impl SqlSessions ===

impl SqlSessions {
    /// The most rows that one [`sweep`](Self::sweep) deletes.
    pub const SWEPT_AT_ONCE: u32 = 100;

    /// Sessions on the router's nodes.
    pub const fn new(router: Router, clock: Clock) -> Self {
        Self { router, clock }
    }

    /// As [`create`](SessionStore::create), in a transaction on the user's shard.
    ///
    /// # Errors
    ///
    /// Returns [`ShardError`] when the database refuses.
    pub async fn create_in(
        &self,
        tx: &mut Tx,
        new: &NewSession<'_>,
        most: NonZeroU32,
    ) -> Result<Created, ShardError> {
        let session = new.session;
        let shard = self.router.shard(session.user)?;
        changed(tx, &shard, session.user).await?;
        let insert = row::insert(keyed(INSERT, &shard, session.user).bind(session.id), new);
        if tx.execute(insert).await? == 0 {
            return Ok(Created::Exists);
        }
        let beyond = keyed(REVOKE_BEYOND, &shard, session.user)
            .bind(self.clock.now())
            .bind(i64::from(Why::TooMany.number()))
            .bind(session.id)
            .bind(i64::from(most.get() - 1));
        let ended = ids(&tx.fetch_all(beyond).await?)?;
        Ok(Created::Stored { ended })
    }

    /// As [`revoke`](SessionStore::revoke), in a transaction on the user's shard.
    ///
    /// # Errors
    ///
    /// Returns [`ShardError`] when the database refuses.
    pub async fn revoke_in(
        &self,
        tx: &mut Tx,
        user: Id,
        which: Which,
        why: Why,
    ) -> Result<Vec<Id>, ShardError> {
        let shard = self.router.shard(user)?;
        changed(tx, &shard, user).await?;
        let (text, id) = match which {
            Which::One(one) => (REVOKE_ONE, Some(one)),
            Which::Others(own) => (REVOKE_OTHERS, Some(own)),
            Which::All => (REVOKE_ALL, None),
        };
        let mut revoke = keyed(text, &shard, user)
            .bind(self.clock.now())
            .bind(i64::from(why.number()));
        if let Some(id) = id {
            revoke = revoke.bind(id);
        }
        ids(&tx.fetch_all(revoke).await?)
    }

    /// The session, if it lives, and what its user's share, in a transaction on his shard.
    pub(crate) async fn living_in(
        &self,
        tx: &mut Tx,
        user: Id,
        id: Id,
    ) -> Result<Option<(Session, Standing)>, ShardError> {
        let shard = self.router.shard(user)?;
        let load = keyed(LOAD, &shard, user).bind(id);
        let found = tx.fetch_optional(load).await?;
        let found = found.as_ref().map(|row| loaded(user, row)).transpose()?;
        let now = self.clock.now();
        Ok(found.filter(|(session, _)| session.is_live(now)))
    }

    /// Deletes rows of `node` whose sessions have ended, revoked or not: at most
    /// [`SWEPT_AT_ONCE`](Self::SWEPT_AT_ONCE), which it waits for nobody to delete.
    /// Tells how many; as many as that, and there may be more.
    ///
    /// # Errors
    ///
    /// Returns [`ShardError`] when the node does not answer. It may be repeated.
    pub async fn sweep(&self, node: &Node) -> Result<u64, ShardError> {
        let sweep = SWEEP.statement().bind(self.clock.now());
        let sweep = sweep.bind(i64::from(Self::SWEPT_AT_ONCE));
        node.background().execute(sweep).await
    }
}

/// Counts a change of the user's sessions. It locks the user's row, so that
/// changes of one user come one after the other.
async fn changed(tx: &mut Tx, shard: &Shard, user: Id) -> Result<(), ShardError> {
    tx.execute(keyed(CHANGED, shard, user)).await.map(drop)
}

fn loaded(user: Id, row: &Row) -> Result<(Session, Standing), ShardError> {
    Ok((session(user, row)?, standing(row)?))
}

fn keyed(text: Sql, shard: &Shard, user: Id) -> Statement {
    text.statement().bind(shard.id()).bind(user)
}

impl SessionStore for SqlSessions {
    type Error = ShardError;

    async fn create(&self, new: &NewSession<'_>, most: NonZeroU32) -> Result<Created, ShardError> {
        let mut tx = self.router.shard(new.session.user)?.begin().await?;
        let created = self.create_in(&mut tx, new, most).await?;
        match &created {
            Created::Stored { .. } => tx.commit().await.map(drop)?,
            Created::Exists => tx.rollback().await?,
        }
        Ok(created)
    }

    async fn load(&self, user: Id, id: Id) -> Result<Option<(Session, Standing)>, ShardError> {
        let shard = self.router.shard(user)?;
        let load = keyed(LOAD, &shard, user).bind(id);
        let row = shard.fetch_optional(load).await?;
        row.as_ref().map(|row| loaded(user, row)).transpose()
    }

    async fn touch(&self, touches: &[Touch]) -> Result<(), ShardError> {
        touch::touch(&self.router, touches, statement::touch).await
    }

    async fn rotate(&self, user: Id, id: Id, rotation: &Rotation) -> Result<bool, ShardError> {
        let shard = self.router.shard(user)?;
        let mut tx = shard.begin().await?;
        changed(&mut tx, &shard, user).await?;
        let rotate = row::rotate(keyed(ROTATE, &shard, user).bind(id), rotation);
        let rotated = tx.execute(rotate).await? == 1;
        match rotated {
            true => tx.commit().await.map(drop)?,
            false => tx.rollback().await?,
        }
        Ok(rotated)
    }

    async fn revoke(&self, user: Id, which: Which, why: Why) -> Result<Revoked, ShardError> {
        let mut tx = self.router.shard(user)?.begin().await?;
        let ended = self.revoke_in(&mut tx, user, which, why).await?;
        tx.commit().await?;
        Ok(Revoked {
            ended,
            reach: Reach::Everywhere,
        })
    }

    async fn list(&self, user: Id) -> Result<Vec<Listed>, ShardError> {
        let shard = self.router.shard(user)?;
        let rows = shard.fetch_all(keyed(LIST, &shard, user)).await?;
        rows.iter().map(|row| listed(user, row)).collect()
    }

    async fn set_roles(&self, user: Id, roles: &Roles) -> Result<Reach, ShardError> {
        let shard = self.router.shard(user)?;
        let set = keyed(ROLES, &shard, user).bind(roles.text());
        shard.execute(set).await?;
        Ok(Reach::Everywhere)
    }

    async fn changed(&self, _user: Id) -> Result<Reach, ShardError> {
        // Nothing stands before it.
        Ok(Reach::Everywhere)
    }
}

impl DurableSessions for SqlSessions {
    async fn snapshot(&self, user: Id) -> Result<Snapshot, ShardError> {
        let shard = self.router.shard(user)?;
        let read = keyed(SNAPSHOT, &shard, user).bind(self.clock.now());
        let rows = shard.fetch_all(read).await?;
        let Some(first) = rows.first() else {
            return Ok(Snapshot::default());
        };
        let mut sessions = Vec::with_capacity(rows.len());
        for row in &rows {
            if row.get::<Option<Id>>("session_id")?.is_some() {
                sessions.push(session(user, row)?);
            }
        }
        Ok(Snapshot {
            standing: standing(first)?,
            sessions,
        })
    }

    async fn untold(&self, after: Option<Id>, limit: u32) -> Result<Vec<Untold>, ShardError> {
        let after = after.map_or(Uuid::nil(), Id::as_uuid);
        let mut untold = Vec::new();
        for node in self.router.nodes().iter() {
            let read = UNTOLD.statement().bind(after).bind(limit);
            match node.background().fetch_all(read).await {
                Ok(rows) => {
                    for row in &rows {
                        let (user, changes) = (row.get("user_id")?, changes(row)?);
                        untold.push(Untold { user, changes });
                    }
                }
                Err(error) => {
                    tracing::debug!(node = %node.id(), error = %Chain(&error), "cannot be asked");
                }
            }
        }
        untold.sort_unstable_by_key(|it| it.user);
        untold.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(untold)
    }

    async fn told(&self, it: Untold) -> Result<(), ShardError> {
        let shard = self.router.shard(it.user)?;
        let told = keyed(TOLD, &shard, it.user).bind(i64::try_from(it.changes).unwrap_or(i64::MAX));
        shard.execute(told).await.map(drop)
    }
}

/// A time that a row may lack.
fn time(row: &Row, column: &str) -> Result<Option<Timestamp>, ShardError> {
    let micros: Option<i64> = row.get(column)?;
    Ok(micros.map(Timestamp::from_micros))
}
