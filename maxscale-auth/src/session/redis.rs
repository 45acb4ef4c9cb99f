//! Copies of sessions in Redis, before the rows that are the truth.
//!
//! ```text
//!  load ── HMGET ── a copy that the server vouches for: done
//!             └─ none: claim ─ read the rows ─ store, if nothing has changed since
//!  change ── rows ── drop the copy ── answer
//!                       └─ Redis is away: this process reads the rows until it was told
//! ```

mod background;
mod builder;
mod copies;
mod error;
mod flight;
mod head;
mod packed;
mod pending;
mod reads;
mod room;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};
use maxscale_core::Chain;
use maxscale_core::clock::Clock;
use maxscale_core::id::Id;
use tokio::task::JoinHandle;

use super::durable::{DurableSessions, Snapshot};
use super::map::{SessionMapError, SessionRoute};
use super::record::{Roles, Session, Standing};
use super::store::{
    Created, Listed, NewSession, Reach, Revoked, Rotation, SessionStore, Touch, Which, Why,
};
use copies::{Copies, Found};
use flight::Flights;
use pending::{Change, Pending};
use room::Room;

pub use builder::RedisSessionsBuilder;
pub use error::RedisSessionsError;

/// Sessions in Redis, as copies of those in `D`. Cheap to clone; clones share a
/// background task, which ends with the last of them.
///
/// A load is one command, and a second one for a session whose secret was exchanged a
/// moment ago, or that somebody else acts in. Where keys are in one place, loads that come
/// at once go together. A copy counts only while the server's
/// [`Lineage`](maxscale_core::redis::Lineage) is the one under which it was stored:
/// after a failover or a restart each user is read from the rows once. Where Redis
/// does not answer, the rows do.
///
/// Redis may evict; it needs no disk. What must not happen is that two servers
/// believe to be the primary at the same time.
///
/// A call that is dropped may have been carried out. What it changed is then told in
/// the background.
#[derive(Debug)]
pub struct RedisSessions<D: DurableSessions> {
    owner: Arc<Owner<D>>,
}

#[derive(Debug)]
struct Owner<D: DurableSessions> {
    shared: Arc<Shared<D>>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared<D: DurableSessions> {
    durable: D,
    copies: Copies,
    room: Room,
    pending: Pending,
    flights: Flights<Snapshot, D::Error>,
    clock: Clock,
    sweep_every: Duration,
}

// === impl RedisSessions ===

impl<D: DurableSessions> RedisSessions<D> {
    /// What is behind.
    pub fn durable(&self) -> &D {
        &self.shared().durable
    }

    /// Where copies are.
    pub fn route(&self) -> Arc<SessionRoute> {
        self.shared().copies.route()
    }

    /// Takes one step of a change of the map; see [`SessionRoute`].
    ///
    /// # Errors
    ///
    /// Returns [`SessionMapError::Server`] if a server is not there; nothing changes then.
    pub fn reroute(&self, route: SessionRoute) -> Result<(), SessionMapError> {
        self.shared().copies.reroute(route)
    }

    /// Whether the server that has the user's copies is below its high-water mark; see
    /// [`room`](RedisSessionsBuilder::room). It does no I/O.
    ///
    /// Nothing is refused here: who begins sessions may refuse those first that are
    /// worth least, of users who never proved their address for instance.
    pub fn has_room(&self, user: Id) -> bool {
        let shared = self.shared();
        let server = shared.copies.route().map().server_of(user);
        shared.room.is_left_on(server)
    }

    fn shared(&self) -> &Shared<D> {
        &self.owner.shared
    }
}

impl<D: DurableSessions> Clone for RedisSessions<D> {
    fn clone(&self) -> Self {
        Self {
            owner: self.owner.clone(),
        }
    }
}

impl<D: DurableSessions> SessionStore for RedisSessions<D> {
    type Error = RedisSessionsError<D::Error>;

    async fn create(&self, new: &NewSession<'_>, most: NonZeroU32) -> Result<Created, Self::Error> {
        let (shared, user) = (self.shared(), new.session.user);
        let change = shared.pending.begin(user);
        let created = shared.durable.create(new, most).await;
        let created = created.map_err(RedisSessionsError::rows)?;
        // Even if it exists: whoever stored it may not have come so far.
        let _ = shared.tell(change).await;
        Ok(created)
    }

    async fn load(
        &self,
        user: Id,
        session: Id,
    ) -> Result<Option<(Session, Standing)>, Self::Error> {
        self.shared().load(user, session).await
    }

    async fn touch(&self, touches: &[Touch]) -> Result<(), Self::Error> {
        let shared = self.shared();
        let late = touches.iter().map(|touch| async move {
            // Where Redis does not say, the rows decide.
            let late = shared.copies.touch(touch).await.unwrap_or(true);
            late.then_some(*touch)
        });
        let late: Vec<Touch> = join_all(late).await.into_iter().flatten().collect();
        if late.is_empty() {
            return Ok(());
        }
        let touched = shared.durable.touch(&late).await;
        touched.map_err(RedisSessionsError::rows)
    }

    async fn rotate(
        &self,
        user: Id,
        session: Id,
        rotation: &Rotation,
    ) -> Result<bool, Self::Error> {
        let shared = self.shared();
        let change = shared.pending.begin(user);
        let rotated = shared.durable.rotate(user, session, rotation).await;
        let rotated = rotated.map_err(RedisSessionsError::rows)?;
        let _ = shared.tell(change).await;
        Ok(rotated)
    }

    async fn revoke(&self, user: Id, which: Which, why: Why) -> Result<Revoked, Self::Error> {
        let shared = self.shared();
        let change = shared.pending.begin(user);
        let revoked = shared.durable.revoke(user, which, why).await;
        let revoked = revoked.map_err(RedisSessionsError::rows)?;
        let reach = revoked.reach.and(shared.tell(change).await);
        Ok(Revoked { reach, ..revoked })
    }

    async fn list(&self, user: Id) -> Result<Vec<Listed>, Self::Error> {
        let listed = self.shared().durable.list(user).await;
        listed.map_err(RedisSessionsError::rows)
    }

    async fn set_roles(&self, user: Id, roles: &Roles) -> Result<Reach, Self::Error> {
        let shared = self.shared();
        let change = shared.pending.begin(user);
        let set = shared.durable.set_roles(user, roles).await;
        let reach = set.map_err(RedisSessionsError::rows)?;
        Ok(reach.and(shared.tell(change).await))
    }

    async fn changed(&self, user: Id) -> Result<Reach, Self::Error> {
        let shared = self.shared();
        let change = shared.pending.begin(user);
        let told = shared.durable.changed(user).await;
        let reach = told.map_err(RedisSessionsError::rows)?;
        Ok(reach.and(shared.tell(change).await))
    }
}

// === impl Shared ===

impl<D: DurableSessions> Shared<D> {
    async fn load(
        &self,
        user: Id,
        session: Id,
    ) -> Result<Option<(Session, Standing)>, RedisSessionsError<D::Error>> {
        let may_store = if self.pending.is_stale(user) {
            false
        } else {
            match self.copies.read(user, session).await {
                Found::Known(found) => return Ok(found),
                Found::NoCopy => true,
                Found::Silence => false,
            }
        };
        // Erased, as few need it, and it is large.
        let snapshot: BoxFuture<'_, _> = Box::pin(async {
            let read = || self.read_rows(user, may_store);
            self.flights.join(user, read).await
        });
        let snapshot = snapshot.await?;
        let mut sessions = snapshot.sessions.iter();
        let found = sessions.find(|it| it.id == session);
        Ok(found.map(|it| (it.clone(), snapshot.standing.clone())))
    }

    /// Reads the rows and, if nobody else is at it, makes the copy from them.
    async fn read_rows(&self, user: Id, may_store: bool) -> Result<Snapshot, D::Error> {
        let claim = match may_store {
            true => self.copies.claim(user).await.unwrap_or_default(),
            false => None,
        };
        let snapshot = self.durable.snapshot(user).await?;
        if let Some(claim) = claim {
            let now = self.clock.now();
            let stored = self.copies.store(user, &claim, &snapshot, now).await;
            // The next one who reads tries again.
            if let Err(error) = stored {
                tracing::debug!(error = %Chain(&error), "cannot keep a user's sessions in redis");
            }
        }
        Ok(snapshot)
    }

    /// Drops the copy after a change of the rows.
    async fn tell(&self, mut change: Change<'_>) -> Reach {
        match self.copies.drop(change.user()).await {
            Ok(()) => Reach::Everywhere,
            Err(error) => {
                tracing::warn!(error = %Chain(&error), "cannot tell redis of a change; it is tried again");
                change.left_a_copy();
                Reach::Stored
            }
        }
    }
}

// === impl Owner ===

impl<D: DurableSessions> Drop for Owner<D> {
    fn drop(&mut self) {
        self.task.abort();
    }
}
