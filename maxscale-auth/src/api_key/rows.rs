//! Keys as rows of `ms_api_key` in their owner's shard.

use std::time::Duration;

use maxscale_core::clock::Timestamp;
use maxscale_core::id::Id;
use maxscale_core::limit::Quota;
use maxscale_shard::{Node, Router, Row, Shard, ShardError, Sql, Statement, Tx};

use super::ApiKeys;
use super::record::{ApiKey, Held, Scopes};
use crate::account::Accounts;
use crate::realm::Realm;
use crate::session::{Answer, DynTouch, Roles, SecretHash, Touch, answer, touch};

/// The keys of one realm's users.
#[derive(Clone, Debug)]
pub(super) struct Rows {
    router: Router,
    realm: Realm,
}

/// What a row says of who brings the key.
pub(super) struct Loaded {
    pub(super) hash: SecretHash,
    pub(super) held: Held,
    /// Those that its owner has.
    pub(super) roles: Roles,
    pub(super) created_at: Timestamp,
    pub(super) expires_at: Timestamp,
    pub(super) used_at: Option<Timestamp>,
}

macro_rules! shown {
    () => {
        "key_id, lineage, name, scopes, quota, quota_window, created_at, expires_at, used_at"
    };
}

/// With the account, which may be locked, and what it may do now.
const LOAD: Sql = Sql::both(
    "SELECT k.secret_hash, k.lineage, k.scopes, k.quota, k.quota_window, k.created_at, k.expires_at,
         k.used_at, COALESCE(s.roles, '') AS roles
     FROM ms_api_key k
     JOIN ms_user u ON u.shard_id = k.shard_id AND u.user_id = k.user_id
     LEFT JOIN ms_session_user s ON s.shard_id = k.shard_id AND s.user_id = k.user_id
     WHERE k.shard_id = $1 AND k.user_id = $2 AND k.key_id = $3 AND k.revoked_at IS NULL
       AND u.realm = $4 AND u.status = 0",
);

const LIST: Sql = Sql::both(concat!(
    "SELECT ",
    shown!(),
    " FROM ms_api_key
     WHERE shard_id = $1 AND user_id = $2 AND revoked_at IS NULL AND expires_at > $3
     ORDER BY key_id DESC"
));

const COUNT: Sql = Sql::both(
    "SELECT count(*) AS n FROM ms_api_key
     WHERE shard_id = $1 AND user_id = $2 AND revoked_at IS NULL AND expires_at > $3",
);

const INSERT: Sql = Sql::both(
    "INSERT INTO ms_api_key (shard_id, user_id, key_id, lineage, name, scopes, quota, quota_window,
         created_at, expires_at, life, secret_hash)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
);

/// It ends no later than `$5`.
const SHORTEN: Sql = Sql::both(concat!(
    "UPDATE ms_api_key SET expires_at = CASE WHEN expires_at > $5 THEN $5 ELSE expires_at END
     WHERE shard_id = $1 AND user_id = $2 AND key_id = $3 AND revoked_at IS NULL AND expires_at > $4
     RETURNING life, ",
    shown!()
));

const REVOKE: Sql = Sql::both(
    "UPDATE ms_api_key SET revoked_at = $3
     WHERE shard_id = $1 AND user_id = $2 AND revoked_at IS NULL AND expires_at > $3 AND key_id = $4
     RETURNING key_id",
);

const REVOKE_ALL: Sql = Sql::both(
    "UPDATE ms_api_key SET revoked_at = $3
     WHERE shard_id = $1 AND user_id = $2 AND revoked_at IS NULL AND expires_at > $3
     RETURNING key_id",
);

/// Node-wide, by `ms_api_key_expires`: what has ended, the oldest first.
const SWEEP: Sql = Sql::each(
    // Materialized, so that no more rows are locked than the limit says.
    "WITH over AS MATERIALIZED (
        SELECT shard_id, user_id, key_id FROM ms_api_key WHERE expires_at <= $1
        ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED)
     DELETE FROM ms_api_key USING over
     WHERE ms_api_key.shard_id = over.shard_id AND ms_api_key.user_id = over.user_id
       AND ms_api_key.key_id = over.key_id",
    "DELETE FROM ms_api_key WHERE (shard_id, user_id, key_id) IN (
        SELECT shard_id, user_id, key_id FROM ms_api_key WHERE expires_at <= $1
        ORDER BY expires_at LIMIT $2)",
);

/// Node-wide, by the primary key, as that of sessions.
const TOUCH: Sql = Sql::each(
    "WITH late AS MATERIALIZED (
        SELECT k.shard_id, k.user_id, k.key_id, t.seen FROM ms_api_key k
        JOIN json_to_recordset($1::json) AS t(shard integer, owner uuid, id uuid, seen bigint)
          ON k.shard_id = t.shard AND k.user_id = t.owner AND k.key_id = t.id
        WHERE k.revoked_at IS NULL AND COALESCE(k.used_at, 0) < t.seen
        FOR UPDATE OF k SKIP LOCKED)
     UPDATE ms_api_key SET used_at = late.seen FROM late
     WHERE ms_api_key.shard_id = late.shard_id AND ms_api_key.user_id = late.user_id
       AND ms_api_key.key_id = late.key_id",
    "UPDATE ms_api_key AS k SET used_at = t.seen
     FROM (SELECT value ->> 'shard' AS shard, unhex(value ->> 'owner') AS owner,
            unhex(value ->> 'id') AS id, value ->> 'seen' AS seen FROM json_each($1)) AS t
     WHERE k.shard_id = t.shard AND k.user_id = t.owner AND k.key_id = t.id
       AND k.revoked_at IS NULL AND COALESCE(k.used_at, 0) < t.seen",
);

// === impl Rows ===

impl Rows {
    pub(super) fn of(accounts: &Accounts) -> Self {
        Self {
            router: accounts.router().clone(),
            realm: accounts.sessions().realm(),
        }
    }

    /// The key, if it is there, was not revoked, and its owner's account is open. Whether its
    /// time allows it is the caller's to say.
    pub(super) async fn load(&self, user: Id, key: Id) -> Result<Option<Loaded>, ShardError> {
        let shard = self.router.shard(user)?;
        let realm = u32::from(self.realm.get());
        let load = keyed(LOAD, &shard, user).bind(key).bind(realm);
        let row = shard.fetch_optional(load).await?;
        row.as_ref().map(loaded).transpose()
    }

    /// The user's keys that live, the newest first.
    pub(super) async fn list(&self, user: Id, now: Timestamp) -> Result<Vec<ApiKey>, ShardError> {
        let shard = self.router.shard(user)?;
        let rows = shard.fetch_all(keyed(LIST, &shard, user).bind(now)).await?;
        rows.iter().map(|row| key(user, row)).collect()
    }

    /// Ends one of the user's keys, or all, and says which.
    pub(super) async fn revoke(
        &self,
        user: Id,
        key: Option<Id>,
        now: Timestamp,
    ) -> Result<Vec<Id>, ShardError> {
        let shard = self.router.shard(user)?;
        let revoke = match key {
            Some(key) => keyed(REVOKE, &shard, user).bind(now).bind(key),
            None => keyed(REVOKE_ALL, &shard, user).bind(now),
        };
        // What gives rows and is no transaction goes to a connection that reads.
        let mut tx = shard.begin().await?;
        let ended = ids(&tx.fetch_all(revoke).await?)?;
        tx.commit().await?;
        Ok(ended)
    }
}

impl DynTouch for Rows {
    fn touch<'a>(&'a self, touches: &'a [Touch]) -> Answer<'a, ()> {
        answer(touch(&self.router, touches, |rows| {
            TOUCH.statement().bind(rows)
        }))
    }
}

/// Ends all of the user's keys, in a transaction on his shard.
pub(crate) async fn end_all(
    tx: &mut Tx,
    shard: &Shard,
    user: Id,
    now: Timestamp,
) -> Result<Vec<Id>, ShardError> {
    let revoke = keyed(REVOKE_ALL, shard, user).bind(now);
    ids(&tx.fetch_all(revoke).await?)
}

/// How many keys of the user live.
pub(super) async fn count(
    tx: &mut Tx,
    shard: &Shard,
    user: Id,
    now: Timestamp,
) -> Result<i64, ShardError> {
    let counted = tx.fetch_optional(keyed(COUNT, shard, user).bind(now));
    counted.await?.map_or(Ok(0), |row| row.get("n"))
}

/// Stores a new key.
pub(super) async fn insert(
    tx: &mut Tx,
    shard: &Shard,
    new: &ApiKey,
    hash: &SecretHash,
    life: Duration,
) -> Result<(), ShardError> {
    let quota = new.quota.as_ref();
    let insert = keyed(INSERT, shard, new.user)
        .bind(new.id)
        .bind(new.lineage)
        .bind(new.name.as_str())
        .bind(new.scopes.text())
        .bind(quota.map(|it| i64::from(it.limit())))
        .bind(quota.map(|it| micros(it.window())))
        .bind(new.created_at)
        .bind(new.expires_at)
        .bind(micros(life))
        .bind(&hash.bytes()[..]);
    tx.execute(insert).await.map(drop)
}

/// Has a key end at `until`, if it would end later, and says what it is and how long such
/// keys live; `None` if it does not live.
pub(super) async fn shorten(
    tx: &mut Tx,
    shard: &Shard,
    (user, id): (Id, Id),
    (now, until): (Timestamp, Timestamp),
) -> Result<Option<(ApiKey, Duration)>, ShardError> {
    let shorten = keyed(SHORTEN, shard, user).bind(id).bind(now).bind(until);
    let Some(row) = tx.fetch_optional(shorten).await? else {
        return Ok(None);
    };
    Ok(Some((key(user, &row)?, span(row.get("life")?))))
}

/// Deletes rows of `node` whose keys have ended: at most `most`.
pub(super) async fn sweep(node: &Node, now: Timestamp, most: u32) -> Result<u64, ShardError> {
    let sweep = SWEEP.statement().bind(now).bind(i64::from(most));
    node.background().execute(sweep).await
}

fn keyed(text: Sql, shard: &Shard, user: Id) -> Statement {
    text.statement().bind(shard.id()).bind(user)
}

fn loaded(row: &Row) -> Result<Loaded, ShardError> {
    let hash: Vec<u8> = row.get("secret_hash")?;
    Ok(Loaded {
        // A hash of another length matches no secret.
        hash: SecretHash::new(hash.try_into().unwrap_or_default()),
        held: Held {
            scopes: Scopes::of(&row.get::<String>("scopes")?),
            lineage: row.get("lineage")?,
            quota: quota(row)?,
        },
        roles: Roles::of(&row.get::<String>("roles")?),
        created_at: Timestamp::from_micros(row.get("created_at")?),
        expires_at: Timestamp::from_micros(row.get("expires_at")?),
        used_at: used_at(row)?,
    })
}

fn key(user: Id, row: &Row) -> Result<ApiKey, ShardError> {
    Ok(ApiKey {
        id: row.get("key_id")?,
        user,
        lineage: row.get("lineage")?,
        name: row.get("name")?,
        scopes: Scopes::of(&row.get::<String>("scopes")?),
        quota: quota(row)?,
        created_at: Timestamp::from_micros(row.get("created_at")?),
        expires_at: Timestamp::from_micros(row.get("expires_at")?),
        used_at: used_at(row)?,
    })
}

fn used_at(row: &Row) -> Result<Option<Timestamp>, ShardError> {
    let used_at: Option<i64> = row.get("used_at")?;
    Ok(used_at.map(Timestamp::from_micros))
}

/// One that cannot be is the least that there is.
fn quota(row: &Row) -> Result<Option<Quota>, ShardError> {
    let (limit, window): (Option<i64>, Option<i64>) = (row.get("quota")?, row.get("quota_window")?);
    let (Some(limit), Some(window)) = (limit, window) else {
        return Ok(None);
    };
    let limit = u32::try_from(limit).unwrap_or(1);
    let quota = Quota::new(limit, span(window));
    Ok(quota.or_else(|_| Quota::new(1, ApiKeys::MAX_LIFE)).ok())
}

fn ids(rows: &[Row]) -> Result<Vec<Id>, ShardError> {
    rows.iter().map(|row| row.get("key_id")).collect()
}

fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}

fn span(micros: i64) -> Duration {
    Duration::from_micros(micros.try_into().unwrap_or_default())
}
