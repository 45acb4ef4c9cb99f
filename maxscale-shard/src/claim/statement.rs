//! What is said to the directory of values, and to the shards of their owners.

use crate::sql::Sql;

/// Now, in microseconds, by the database's clock.
macro_rules! pg_now {
    () => {
        "(extract(epoch from clock_timestamp()) * 1000000)::bigint"
    };
}

macro_rules! sqlite_now {
    () => {
        "CAST(unixepoch('subsec') * 1000000 AS INTEGER)"
    };
}

macro_rules! reserve {
    ($now:expr) => {
        concat!(
            "INSERT INTO ms_claim (shard_id, kind, value_hash, owner, held, lease_until, token)
             VALUES ($1, $2, $3, $4, false, ",
            $now,
            " + $5, $6)
             ON CONFLICT (shard_id, kind, value_hash) DO UPDATE
             SET lease_until = excluded.lease_until
             WHERE NOT ms_claim.held AND ms_claim.owner = excluded.owner
             RETURNING token"
        )
    };
}

/// Takes a free value; who has reserved it already gets more time for it.
pub(super) const RESERVE: Sql = Sql::each(reserve!(pg_now!()), reserve!(sqlite_now!()));

macro_rules! look {
    ($now:expr) => {
        concat!(
            "SELECT owner, token, held, lease_until < ",
            $now,
            " AS expired FROM ms_claim
             WHERE shard_id = $1 AND kind = $2 AND value_hash = $3"
        )
    };
}

/// Whose the value is, or may become.
pub(super) const LOOK: Sql = Sql::each(look!(pg_now!()), look!(sqlite_now!()));

/// Also true for who holds it already, so that a lost answer can be asked again.
pub(super) const CONFIRM: Sql = Sql::both(
    "UPDATE ms_claim SET held = true
     WHERE shard_id = $1 AND kind = $2 AND value_hash = $3 AND token = $4",
);

pub(super) const RELEASE: Sql = Sql::both(
    "DELETE FROM ms_claim WHERE shard_id = $1 AND kind = $2 AND value_hash = $3 AND token = $4",
);

/// Frees what was cancelled, unless it was confirmed all the same.
pub(super) const FREE: Sql = Sql::both(
    "DELETE FROM ms_claim
     WHERE shard_id = $1 AND kind = $2 AND value_hash = $3 AND token = $4 AND NOT held",
);

pub(super) const FIND: Sql = Sql::both(
    "SELECT owner FROM ms_claim
     WHERE shard_id = $1 AND kind = $2 AND value_hash = $3 AND held",
);

macro_rules! mark {
    ($now:expr) => {
        concat!(
            "INSERT INTO ms_claim_mark (shard_id, token, kind, value_hash, owner, state, due)
             VALUES ($1, $2, $3, $4, $5, $6, ",
            $now,
            " + $7)"
        )
    };
}

/// Says on the owner's shard what has become of a claim there; once.
pub(super) const MARK: Sql = Sql::each(mark!(pg_now!()), mark!(sqlite_now!()));

/// The same, but whoever was first has said it.
pub(super) const MARK_UNLESS: Sql = Sql::each(
    concat!(
        mark!(pg_now!()),
        " ON CONFLICT (shard_id, token) DO NOTHING"
    ),
    concat!(
        mark!(sqlite_now!()),
        " ON CONFLICT (shard_id, token) DO NOTHING"
    ),
);

pub(super) const MARKED: Sql =
    Sql::both("SELECT state FROM ms_claim_mark WHERE shard_id = $1 AND token = $2");

pub(super) const UNMARK: Sql =
    Sql::both("DELETE FROM ms_claim_mark WHERE shard_id = $1 AND token = $2");

/// Node-wide, by `ms_claim_open`: reservations that ran out, the oldest first.
pub(super) const EXPIRED: Sql = Sql::each(
    concat!(
        "SELECT shard_id, value_hash, owner, token, ",
        pg_now!(),
        " - lease_until AS late
         FROM ms_claim WHERE kind = $1 AND NOT held AND lease_until < ",
        pg_now!(),
        " ORDER BY lease_until LIMIT $2"
    ),
    concat!(
        "SELECT shard_id, value_hash, owner, token, ",
        sqlite_now!(),
        " - lease_until AS late
         FROM ms_claim WHERE kind = $1 AND NOT held AND lease_until < ",
        sqlite_now!(),
        " ORDER BY lease_until LIMIT $2"
    ),
);

/// Node-wide, by `ms_claim_mark_due`: marks that are due, the oldest first.
pub(super) const DUE: Sql = Sql::each(
    concat!(
        "SELECT shard_id, token, value_hash, owner, state, ",
        pg_now!(),
        " - due AS late
         FROM ms_claim_mark WHERE kind = $1 AND due < ",
        pg_now!(),
        " ORDER BY due LIMIT $2"
    ),
    concat!(
        "SELECT shard_id, token, value_hash, owner, state, ",
        sqlite_now!(),
        " - due AS late
         FROM ms_claim_mark WHERE kind = $1 AND due < ",
        sqlite_now!(),
        " ORDER BY due LIMIT $2"
    ),
);
