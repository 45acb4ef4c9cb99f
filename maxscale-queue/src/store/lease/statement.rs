//! The texts of leases: one row per life of a worker on a node, and what becomes
//! of the jobs of those that are gone.

use maxscale_shard::Sql;

macro_rules! enter {
    ($now:expr) => {
        concat!(
            "INSERT INTO ms_worker (incarnation, lease_until, started_at) VALUES ($1, ",
            $now,
            " + $2, ",
            $now,
            ")"
        )
    };
}

pub(super) const ENTER: Sql = Sql::each(enter!(pg_now!()), enter!(sqlite_now!()));

macro_rules! renew {
    ($now:expr) => {
        concat!(
            "UPDATE ms_worker SET lease_until = ",
            $now,
            " + $2 WHERE incarnation = $1"
        )
    };
}

pub(super) const RENEW: Sql = Sql::each(renew!(pg_now!()), renew!(sqlite_now!()));

pub(super) const LEAVE: Sql = Sql::both("DELETE FROM ms_worker WHERE incarnation = $1");

macro_rules! bury {
    ($now:expr) => {
        concat!("DELETE FROM ms_worker WHERE lease_until < ", $now)
    };
}

/// From here on none of them can renew, so that their jobs are free: whether a
/// worker lives is decided in its own row, and by nothing else.
pub(super) const BURY: Sql = Sql::each(bury!(pg_now!()), bury!(sqlite_now!()));

/// A job whose worker died this often while it ran is dead.
macro_rules! deaths {
    () => {
        "3"
    };
}

// A row of an older program has a lease of its own.
macro_rules! orphan {
    ($columns:expr, $now:expr) => {
        concat!(
            "SELECT ",
            $columns,
            " FROM ms_job WHERE state = 'running' AND coalesce(lease_until, 0) < ",
            $now,
            " AND NOT EXISTS (SELECT 1 FROM ms_worker AS w WHERE w.incarnation = ms_job.worker)
             LIMIT $1"
        )
    };
}

// The next run repeats the attempt; the right sides see the row as it was before.
macro_rules! rescue {
    ($now:expr, $history:expr) => {
        concat!(
            "UPDATE ms_job SET
                state = CASE WHEN crashes + 1 >= ",
            deaths!(),
            " THEN 'dead' ELSE 'ready' END,
                last_error = CASE WHEN crashes + 1 >= ",
            deaths!(),
            " THEN 'worker died ",
            deaths!(),
            " times' ELSE last_error END,
                dead_reason = CASE WHEN crashes + 1 >= ",
            deaths!(),
            " THEN 'poison' END,
                finished_at = CASE WHEN crashes + 1 >= ",
            deaths!(),
            " THEN ",
            $now,
            " END,
                attempt = attempt - CASE WHEN crashes + 1 >= ",
            deaths!(),
            " THEN 0 ELSE 1 END,
                crashes = crashes + 1,
                lease_token = lease_token + 1,
                lease_until = NULL,
                worker = NULL, ",
            $history,
            " "
        )
    };
}

macro_rules! crashed {
    () => {
        "'{\"how\":\"crashed\"}'"
    };
}

macro_rules! rescued {
    () => {
        " RETURNING ms_job.job_id, kind, state"
    };
}

/// Node-wide, by `ms_job_held`: jobs whose worker is gone, up to a number.
///
/// Looked at again once each row is locked: it may have been rescued, and claimed
/// by a worker that this statement's snapshot does not know.
pub(super) const RESCUE: Sql = Sql::each(
    concat!(
        "WITH orphan AS MATERIALIZED (",
        orphan!("shard_id, job_id, lease_token", pg_now!()),
        "),
        mine AS MATERIALIZED (
            SELECT j.shard_id, j.job_id FROM orphan
            JOIN ms_job AS j ON j.shard_id = orphan.shard_id AND j.job_id = orphan.job_id
            WHERE j.state = 'running' AND j.lease_token = orphan.lease_token
            FOR UPDATE OF j SKIP LOCKED) ",
        rescue!(pg_now!(), pg_history!(crashed!())),
        "FROM mine WHERE ms_job.shard_id = mine.shard_id AND ms_job.job_id = mine.job_id",
        rescued!(),
    ),
    concat!(
        rescue!(sqlite_now!(), sqlite_history!(crashed!())),
        "WHERE rowid IN (",
        orphan!("rowid", sqlite_now!()),
        ")",
        rescued!(),
    ),
);
