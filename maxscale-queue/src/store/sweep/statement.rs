//! The texts of what is cleared away, a bounded number of rows at a time.

use maxscale_shard::Sql;

macro_rules! late {
    ($columns:expr, $now:expr) => {
        concat!(
            "SELECT ",
            $columns,
            " FROM ms_job WHERE state = 'ready' AND expires_at <= ",
            $now,
            " ORDER BY expires_at LIMIT $1"
        )
    };
}

macro_rules! expire {
    ($now:expr) => {
        concat!(
            "UPDATE ms_job SET state = 'dead', last_error = 'expired', finished_at = ",
            $now,
            " "
        )
    };
}

/// Node-wide, by `ms_job_expiry`: jobs that waited for too long.
pub(super) const EXPIRE: Sql = Sql::each(
    concat!(
        "WITH late AS MATERIALIZED (",
        late!("shard_id, job_id", pg_now!()),
        " FOR UPDATE SKIP LOCKED) ",
        expire!(pg_now!()),
        "FROM late WHERE ms_job.shard_id = late.shard_id AND ms_job.job_id = late.job_id"
    ),
    concat!(
        expire!(sqlite_now!()),
        "WHERE rowid IN (",
        late!("rowid", sqlite_now!()),
        ")"
    ),
);

macro_rules! old {
    ($columns:expr, $now:expr) => {
        concat!(
            "SELECT ",
            $columns,
            " FROM ms_job WHERE prune_at <= ",
            $now,
            " ORDER BY prune_at LIMIT $1"
        )
    };
}

/// Node-wide, by `ms_job_kept`: jobs that were done and kept for long enough.
pub(super) const PRUNE: Sql = Sql::each(
    concat!(
        "WITH old AS MATERIALIZED (",
        old!("shard_id, job_id", pg_now!()),
        " FOR UPDATE SKIP LOCKED)
         DELETE FROM ms_job USING old
         WHERE ms_job.shard_id = old.shard_id AND ms_job.job_id = old.job_id"
    ),
    concat!(
        "DELETE FROM ms_job WHERE rowid IN (",
        old!("rowid", sqlite_now!()),
        ")"
    ),
);

macro_rules! alive {
    () => {
        "EXISTS (SELECT 1 FROM ms_job AS j WHERE j.shard_id = u.shard_id AND j.job_id = u.job_id
            AND j.state IN ('ready', 'running'))"
    };
}

// What still names a job is looked at again in an hour.
macro_rules! put_off {
    ($now:expr, $rows:expr) => {
        concat!(
            "UPDATE ms_job_unique SET look_at = ",
            $now,
            " + 3600000000 ",
            $rows
        )
    };
}

macro_rules! looked_at {
    ($columns:expr, $now:expr) => {
        concat!(
            "SELECT ",
            $columns,
            " FROM ms_job_unique AS u WHERE u.look_at <= ",
            $now,
            " AND "
        )
    };
}

/// Node-wide, by `ms_job_unique_look`: keys whose job is not at its end.
pub(super) const PUT_OFF: Sql = Sql::each(
    put_off!(
        pg_now!(),
        concat!(
            "FROM (",
            looked_at!("u.shard_id, u.unique_key", pg_now!()),
            alive!(),
            " ORDER BY u.look_at LIMIT $1 FOR UPDATE OF u SKIP LOCKED) AS held
             WHERE ms_job_unique.shard_id = held.shard_id
               AND ms_job_unique.unique_key = held.unique_key"
        )
    ),
    put_off!(
        sqlite_now!(),
        concat!(
            "WHERE rowid IN (",
            looked_at!("u.rowid", sqlite_now!()),
            alive!(),
            " ORDER BY u.look_at LIMIT $1)"
        )
    ),
);

/// Node-wide, by `ms_job_unique_look`: keys that hold nobody back any more.
///
/// Looked at again once each row is locked: another job may have taken it over.
pub(super) const FORGET: Sql = Sql::each(
    concat!(
        "WITH past AS MATERIALIZED (",
        looked_at!("u.shard_id, u.unique_key, u.job_id", pg_now!()),
        "NOT ",
        alive!(),
        " ORDER BY u.look_at LIMIT $1),
        mine AS MATERIALIZED (
            SELECT k.shard_id, k.unique_key FROM past
            JOIN ms_job_unique AS k ON k.shard_id = past.shard_id
                AND k.unique_key = past.unique_key AND k.job_id = past.job_id
            FOR UPDATE OF k SKIP LOCKED)
         DELETE FROM ms_job_unique USING mine
         WHERE ms_job_unique.shard_id = mine.shard_id
           AND ms_job_unique.unique_key = mine.unique_key"
    ),
    concat!(
        "DELETE FROM ms_job_unique WHERE rowid IN (",
        looked_at!("u.rowid", sqlite_now!()),
        "NOT ",
        alive!(),
        " ORDER BY u.look_at LIMIT $1)"
    ),
);
