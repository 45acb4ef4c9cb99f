use maxscale_core::clock::Timestamp;
use maxscale_core::id::Id;
use maxscale_shard::{Router, Shard, ShardError, Sql, Statement, Tx};

use super::{Session, SessionStore};

/// Sessions as rows of `ms_session` in the user's shard.
#[derive(Clone, Debug)]
pub struct SqlSessions {
    router: Router,
}

const INSERT: Sql = Sql::both(
    "INSERT INTO ms_session (shard_id, user_id, session_id, secret_hash, created_at, last_seen)
     VALUES ($1, $2, $3, $4, $5, $6)",
);
const LOAD: Sql = Sql::both(
    "SELECT secret_hash, created_at, last_seen FROM ms_session
     WHERE shard_id = $1 AND user_id = $2 AND session_id = $3",
);
const TOUCH: Sql = Sql::both(
    "UPDATE ms_session SET last_seen = $4
     WHERE shard_id = $1 AND user_id = $2 AND session_id = $3 AND last_seen < $4",
);
const REVOKE: Sql =
    Sql::both("DELETE FROM ms_session WHERE shard_id = $1 AND user_id = $2 AND session_id = $3");

// === impl SqlSessions ===

impl SqlSessions {
    /// Sessions on the router's nodes.
    pub const fn new(router: Router) -> Self {
        Self { router }
    }

    /// Stores a new session in the transaction that creates or checks its user.
    pub(crate) async fn insert(
        tx: &mut Tx,
        shard: &Shard,
        session: &Session,
    ) -> Result<(), ShardError> {
        let row = keyed(INSERT, shard, session.user, session.id)
            .bind(&session.secret_hash[..])
            .bind(session.created_at)
            .bind(session.last_seen);
        tx.execute(row).await.map(drop)
    }
}

fn keyed(text: Sql, shard: &Shard, user: Id, session: Id) -> Statement {
    text.statement().bind(shard.id()).bind(user).bind(session)
}

impl SessionStore for SqlSessions {
    type Error = ShardError;

    async fn load(&self, user: Id, session: Id) -> Result<Option<Session>, ShardError> {
        let shard = self.router.shard(user)?;
        let statement = keyed(LOAD, &shard, user, session);
        let Some(row) = shard.fetch_optional(statement).await? else {
            return Ok(None);
        };
        let hash: Vec<u8> = row.get("secret_hash")?;
        Ok(Some(Session {
            user,
            id: session,
            // A hash of another length matches no secret.
            secret_hash: hash.try_into().unwrap_or_default(),
            created_at: Timestamp::from_micros(row.get("created_at")?),
            last_seen: Timestamp::from_micros(row.get("last_seen")?),
        }))
    }

    async fn touch(&self, user: Id, session: Id, now: Timestamp) -> Result<bool, ShardError> {
        let shard = self.router.shard(user)?;
        let statement = keyed(TOUCH, &shard, user, session).bind(now);
        Ok(shard.execute(statement).await? == 1)
    }

    async fn revoke(&self, user: Id, session: Id) -> Result<bool, ShardError> {
        let shard = self.router.shard(user)?;
        let statement = keyed(REVOKE, &shard, user, session);
        Ok(shard.execute(statement).await? == 1)
    }
}
