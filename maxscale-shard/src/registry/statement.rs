//! What is said to the directory of keys, and to the shadows of it.

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

/// The next revision. The row's lock is held to the end of the transaction, so
/// revisions are committed in their order.
pub(super) const DEAL: Sql = Sql::both(
    "INSERT INTO ms_registry_counter (shard_id, kind, last) VALUES ($1, $2, 1)
     ON CONFLICT (shard_id, kind) DO UPDATE SET last = ms_registry_counter.last + 1
     RETURNING last",
);

pub(super) const TAKE: Sql = Sql::both(
    "INSERT INTO ms_registry (shard_id, kind, key_hash, home, region, revision, gone)
     VALUES ($1, $2, $3, $4, $5, $6, false)
     ON CONFLICT (shard_id, kind, key_hash) DO UPDATE
     SET home = excluded.home, region = excluded.region, revision = excluded.revision, gone = false
     WHERE ms_registry.gone",
);

pub(super) const MOVE: Sql = Sql::both(
    "UPDATE ms_registry SET home = $4, region = $5, revision = $6
     WHERE shard_id = $1 AND kind = $2 AND key_hash = $3 AND revision = $7 AND NOT gone",
);

pub(super) const REMOVE: Sql = Sql::both(
    "UPDATE ms_registry SET gone = true, region = NULL, revision = $4
     WHERE shard_id = $1 AND kind = $2 AND key_hash = $3 AND NOT gone",
);

pub(super) const FIND: Sql = Sql::both(
    "SELECT home, region, revision, gone FROM ms_registry
     WHERE shard_id = $1 AND kind = $2 AND key_hash = $3",
);

/// Node-wide, by `ms_registry_counter_kind`: how far each part of the directory is.
pub(super) const COUNTERS: Sql =
    Sql::both("SELECT shard_id, last FROM ms_registry_counter WHERE kind = $1");

/// What has changed in one part, in the order of the commits.
pub(super) const DELTA: Sql = Sql::both(
    "SELECT key_hash, home, region, revision, gone FROM ms_registry
     WHERE shard_id = $1 AND kind = $2 AND revision > $3 ORDER BY revision LIMIT $4",
);

/// A row that is older than the shadow's changes nothing.
pub(super) const COPY: Sql = Sql::both(
    "INSERT INTO ms_shadow (kind, part, key_hash, home, region, revision, gone)
     VALUES ($1, $2, $3, $4, $5, $6, $7)
     ON CONFLICT (kind, part, key_hash) DO UPDATE
     SET home = excluded.home, region = excluded.region, revision = excluded.revision,
         gone = excluded.gone
     WHERE excluded.revision > ms_shadow.revision",
);

pub(super) const PROGRESS: Sql =
    Sql::both("SELECT part, revision FROM ms_shadow_progress WHERE kind = $1");

pub(super) const ADVANCE: Sql = Sql::both(
    "INSERT INTO ms_shadow_progress (kind, part, revision) VALUES ($1, $2, $3)
     ON CONFLICT (kind, part) DO UPDATE SET revision = excluded.revision
     WHERE excluded.revision > ms_shadow_progress.revision",
);

pub(super) const FORGET_PART: Sql =
    Sql::both("DELETE FROM ms_shadow WHERE kind = $1 AND part = $2");

pub(super) const FORGET_PROGRESS: Sql =
    Sql::both("DELETE FROM ms_shadow_progress WHERE kind = $1 AND part = $2");

pub(super) const NOW: Sql = Sql::each(
    concat!("SELECT ", pg_now!(), " AS now"),
    concat!("SELECT ", sqlite_now!(), " AS now"),
);

pub(super) const WHOLE: Sql = Sql::both(
    "INSERT INTO ms_shadow_pull (kind, since) VALUES ($1, $2)
     ON CONFLICT (kind) DO UPDATE SET since = excluded.since
     WHERE excluded.since > ms_shadow_pull.since",
);

macro_rules! seen {
    ($now:expr) => {
        concat!(
            "SELECT (SELECT ",
            $now,
            " - since FROM ms_shadow_pull WHERE kind = $1) AS age,
             home, region, revision, gone
             FROM (SELECT 1 AS one) AS asked
             LEFT JOIN ms_shadow ON kind = $1 AND part = $2 AND key_hash = $3"
        )
    };
}

/// What the shadow has of a key, and how old that is.
pub(super) const SEEN: Sql = Sql::each(seen!(pg_now!()), seen!(sqlite_now!()));
