//! The statements. Each begins with the shard and the user.

use maxscale_shard::{Sql, Statement};

use crate::session::rules;

/// Counts a change, and makes the user's row if this is the first.
pub(super) const CHANGED: Sql = Sql::both(
    "INSERT INTO ms_session_user (shard_id, user_id, changes, told, roles)
     VALUES ($1, $2, 1, 0, '')
     ON CONFLICT (shard_id, user_id) DO UPDATE SET changes = ms_session_user.changes + 1",
);

pub(super) const ROLES: Sql = Sql::both(
    "INSERT INTO ms_session_user (shard_id, user_id, changes, told, roles)
     VALUES ($1, $2, 1, 0, $3)
     ON CONFLICT (shard_id, user_id)
     DO UPDATE SET changes = ms_session_user.changes + 1, roles = excluded.roles",
);

pub(super) const INSERT: Sql = Sql::both(
    "INSERT INTO ms_session (shard_id, user_id, session_id, secret_hash, created_at, last_seen,
         authenticated_at, idle, ends_at, level, methods, version, actor, device)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
     ON CONFLICT (shard_id, user_id, session_id) DO NOTHING",
);

pub(super) const LOAD: Sql = Sql::both(
    "SELECT s.session_id, s.secret_hash, s.created_at, s.last_seen, s.authenticated_at, s.idle,
         s.ends_at, s.level, s.methods, s.version, s.actor,
         s.previous_hash, s.previous_until, s.previous_level, u.changes, u.roles
     FROM ms_session s JOIN ms_session_user u ON u.shard_id = s.shard_id AND u.user_id = s.user_id
     WHERE s.shard_id = $1 AND s.user_id = $2 AND s.session_id = $3 AND s.revoked_at IS NULL",
);

pub(super) const LIST: Sql = Sql::both(
    "SELECT session_id, secret_hash, created_at, last_seen, authenticated_at, idle, ends_at, level,
         methods, version, actor, previous_hash, previous_until, previous_level, device
     FROM ms_session WHERE shard_id = $1 AND user_id = $2 AND revoked_at IS NULL
     ORDER BY session_id DESC",
);

macro_rules! late {
    () => {
        "CASE WHEN s.idle / $2 < $3 THEN s.idle / $2 ELSE $3 END"
    };
}

/// Writes what is later than the rows by enough to be worth it.
pub(super) fn touch(rows: String) -> Statement {
    let most = i64::try_from(rules::LAG_MOST.as_micros()).unwrap_or(i64::MAX);
    let part = i64::from(rules::LAG_PART);
    TOUCH.statement().bind(rows).bind(part).bind(most)
}

/// Node-wide, by the primary key. A row that another transaction holds is passed
/// over: it is touched again soon, and two batches never wait for each other.
const TOUCH: Sql = Sql::each(
    concat!(
        "WITH late AS MATERIALIZED (
            SELECT s.shard_id, s.user_id, s.session_id, t.seen FROM ms_session s
            JOIN json_to_recordset($1::json)
                AS t(shard integer, owner uuid, id uuid, seen bigint)
              ON s.shard_id = t.shard AND s.user_id = t.owner AND s.session_id = t.id
            WHERE s.revoked_at IS NULL AND t.seen - s.last_seen >= ",
        late!(),
        " FOR UPDATE OF s SKIP LOCKED)
         UPDATE ms_session SET last_seen = late.seen FROM late
         WHERE ms_session.shard_id = late.shard_id AND ms_session.user_id = late.user_id
           AND ms_session.session_id = late.session_id"
    ),
    concat!(
        "UPDATE ms_session AS s SET last_seen = t.seen
         FROM (SELECT value ->> 'shard' AS shard, unhex(value ->> 'owner') AS owner,
                unhex(value ->> 'id') AS id, value ->> 'seen' AS seen FROM json_each($1)) AS t
         WHERE s.shard_id = t.shard AND s.user_id = t.owner AND s.session_id = t.id
           AND s.revoked_at IS NULL AND t.seen - s.last_seen >= ",
        late!()
    ),
);

pub(super) const ROTATE: Sql = Sql::both(
    "UPDATE ms_session SET previous_hash = secret_hash, previous_level = level,
         previous_until = $5, secret_hash = $6, level = $7, methods = $8, authenticated_at = $9,
         version = version + 1
     WHERE shard_id = $1 AND user_id = $2 AND session_id = $3 AND version = $4
       AND revoked_at IS NULL",
);

pub(super) const REVOKE_ONE: Sql = Sql::both(
    "UPDATE ms_session SET revoked_at = $3, why = $4
     WHERE shard_id = $1 AND user_id = $2 AND revoked_at IS NULL AND session_id = $5
     RETURNING session_id",
);

pub(super) const REVOKE_OTHERS: Sql = Sql::both(
    "UPDATE ms_session SET revoked_at = $3, why = $4
     WHERE shard_id = $1 AND user_id = $2 AND revoked_at IS NULL AND session_id <> $5
     RETURNING session_id",
);

pub(super) const REVOKE_ALL: Sql = Sql::both(
    "UPDATE ms_session SET revoked_at = $3, why = $4
     WHERE shard_id = $1 AND user_id = $2 AND revoked_at IS NULL
     RETURNING session_id",
);

/// All but the new one and the `$6` that were active last.
pub(super) const REVOKE_BEYOND: Sql = Sql::both(
    "UPDATE ms_session SET revoked_at = $3, why = $4
     WHERE shard_id = $1 AND user_id = $2 AND revoked_at IS NULL AND session_id <> $5
       AND ends_at > $3 AND last_seen + idle > $3
       AND session_id NOT IN (
         SELECT session_id FROM ms_session
         WHERE shard_id = $1 AND user_id = $2 AND revoked_at IS NULL AND session_id <> $5
           AND ends_at > $3 AND last_seen + idle > $3
         ORDER BY last_seen DESC, session_id DESC LIMIT $6)
     RETURNING session_id",
);

/// The user's row, with null sessions if none lives.
pub(super) const SNAPSHOT: Sql = Sql::both(
    "SELECT s.session_id, s.secret_hash, s.created_at, s.last_seen, s.authenticated_at, s.idle,
         s.ends_at, s.level, s.methods, s.version, s.actor,
         s.previous_hash, s.previous_until, s.previous_level, u.changes, u.roles
     FROM ms_session_user u LEFT JOIN ms_session s
       ON s.shard_id = u.shard_id AND s.user_id = u.user_id AND s.revoked_at IS NULL
         AND s.ends_at > $3 AND s.last_seen + s.idle > $3
     WHERE u.shard_id = $1 AND u.user_id = $2",
);

/// Node-wide, by `ms_session_user_untold`.
pub(super) const UNTOLD: Sql = Sql::both(
    "SELECT user_id, changes FROM ms_session_user WHERE told < changes AND user_id > $1
     ORDER BY user_id LIMIT $2",
);

pub(super) const TOLD: Sql = Sql::both(
    "UPDATE ms_session_user SET told = $3
     WHERE shard_id = $1 AND user_id = $2 AND told < $3",
);

/// Node-wide, by `ms_session_ends`: what has ended, the oldest first.
pub(super) const SWEEP: Sql = Sql::each(
    // Materialized, so that no more rows are locked than the limit says.
    "WITH over AS MATERIALIZED (
        SELECT shard_id, user_id, session_id FROM ms_session WHERE ends_at <= $1
        ORDER BY ends_at LIMIT $2 FOR UPDATE SKIP LOCKED)
     DELETE FROM ms_session USING over
     WHERE ms_session.shard_id = over.shard_id AND ms_session.user_id = over.user_id
       AND ms_session.session_id = over.session_id",
    "DELETE FROM ms_session WHERE (shard_id, user_id, session_id) IN (
        SELECT shard_id, user_id, session_id FROM ms_session WHERE ends_at <= $1
        ORDER BY ends_at LIMIT $2)",
);
