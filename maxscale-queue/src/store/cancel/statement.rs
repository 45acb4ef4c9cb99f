//! The texts of what stops jobs.

use maxscale_shard::Sql;

macro_rules! ask {
    ($now:expr) => {
        concat!(
            "UPDATE ms_job SET cancel_at = coalesce(cancel_at, ",
            $now,
            ") WHERE shard_id = $1 AND job_id = $2 AND state IN ('ready', 'running')"
        )
    };
}

pub(super) const ASK: Sql = Sql::each(ask!(pg_now!()), ask!(sqlite_now!()));

macro_rules! cancelled {
    ($now:expr) => {
        concat!(
            "UPDATE ms_job SET state = 'dead', last_error = 'cancelled', dead_reason = 'cancelled',
                cancel_at = coalesce(cancel_at, ",
            $now,
            "), finished_at = ",
            $now,
            " "
        )
    };
}

macro_rules! cancel {
    ($now:expr) => {
        concat!(
            cancelled!($now),
            "WHERE shard_id = $1 AND job_id = $2 AND state = 'ready'"
        )
    };
}

pub(super) const CANCEL: Sql = Sql::each(cancel!(pg_now!()), cancel!(sqlite_now!()));

/// Node-wide, by `ms_job_held`: what a worker runs and shall stop.
pub(super) const ASKED: Sql = Sql::both(
    "SELECT shard_id, job_id, lease_token FROM ms_job
     WHERE worker = $1 AND state = 'running' AND cancel_at IS NOT NULL",
);

macro_rules! asked {
    ($columns:expr, $now:expr) => {
        concat!(
            "SELECT ",
            $columns,
            " FROM ms_job WHERE state = 'ready' AND cancel_at <= ",
            $now,
            " ORDER BY cancel_at LIMIT $1"
        )
    };
}

/// Node-wide, by `ms_job_cancelled`: what was asked to stop when its run ended
/// otherwise, or its worker died.
pub(super) const STOP: Sql = Sql::each(
    concat!(
        "WITH asked AS MATERIALIZED (",
        asked!("shard_id, job_id", pg_now!()),
        " FOR UPDATE SKIP LOCKED) ",
        cancelled!(pg_now!()),
        "FROM asked WHERE ms_job.shard_id = asked.shard_id AND ms_job.job_id = asked.job_id"
    ),
    concat!(
        cancelled!(sqlite_now!()),
        "WHERE rowid IN (",
        asked!("rowid", sqlite_now!()),
        ")"
    ),
);

macro_rules! tagged {
    ($columns:expr, $now:expr, $tagged:expr) => {
        concat!(
            "SELECT ",
            $columns,
            " FROM ms_job WHERE state = 'ready' AND tags IS NOT NULL AND created_at <= ",
            $now,
            " AND ",
            $tagged,
            " ORDER BY created_at LIMIT $2"
        )
    };
}

/// Node-wide, by `ms_job_tagged`: what waits and has a tag.
pub(super) const CANCEL_TAGGED: Sql = Sql::each(
    concat!(
        cancelled!(pg_now!()),
        "FROM (",
        tagged!("shard_id, job_id", pg_now!(), pg_tagged!("$1")),
        " FOR UPDATE SKIP LOCKED) AS mine
         WHERE ms_job.shard_id = mine.shard_id AND ms_job.job_id = mine.job_id"
    ),
    concat!(
        cancelled!(sqlite_now!()),
        "WHERE rowid IN (",
        tagged!("rowid", sqlite_now!(), sqlite_tagged!("$1")),
        ")"
    ),
);
