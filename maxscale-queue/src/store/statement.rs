//! The statements' texts, for both engines.
//!
//! Each has its clock in it: `statement_timestamp()`, `unixepoch()`.

use maxscale_shard::Sql;

macro_rules! pg_now {
    // Stable within its statement, so that it can bound an index scan.
    () => {
        "(extract(epoch from statement_timestamp()) * 1000000)::bigint"
    };
}

macro_rules! sqlite_now {
    () => {
        "CAST(unixepoch('subsec') * 1000000 AS INTEGER)"
    };
}

/// A job whose worker died this often while it ran is dead.
macro_rules! deaths {
    () => {
        "3"
    };
}

macro_rules! insert {
    ($now:expr) => {
        concat!(
            "INSERT INTO ms_job (shard_id, job_id, kind, version, queue, args, max_attempts,
                trace_context, run_at, state, attempt, crashes, lease_token, created_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, ",
            $now,
            " + $9, 'ready', 0, 0, 0, ",
            $now,
            ")"
        )
    };
}

pub(super) const INSERT: Sql = Sql::each(insert!(pg_now!()), insert!(sqlite_now!()));

pub(super) const FIND: Sql = Sql::both(
    "SELECT state, attempt, crashes, last_error, result, created_at, finished_at
     FROM ms_job WHERE shard_id = $1 AND job_id = $2",
);

// What is due, oldest first. A row of a dead worker is as due as a ready one.
macro_rules! due {
    ($columns:expr, $now:expr, $kinds:expr) => {
        concat!(
            "SELECT ",
            $columns,
            " FROM ms_job
             WHERE state IN ('ready', 'running') AND queue = $1 AND run_at <= ",
            $now,
            " AND (state = 'ready' OR lease_until < ",
            $now,
            ") AND EXISTS (",
            $kinds,
            ") ORDER BY run_at LIMIT $3"
        )
    };
}

// The right sides see the row as it was before.
macro_rules! take {
    ($now:expr) => {
        concat!(
            "UPDATE ms_job SET
                state = CASE WHEN state = 'running' AND crashes + 1 >= ",
            deaths!(),
            " THEN 'dead' ELSE 'running' END,
                last_error = CASE WHEN state = 'running' AND crashes + 1 >= ",
            deaths!(),
            " THEN 'worker died ",
            deaths!(),
            " times' ELSE last_error END,
                finished_at = CASE WHEN state = 'running' AND crashes + 1 >= ",
            deaths!(),
            " THEN ",
            $now,
            " END,
                attempt = attempt + CASE WHEN state = 'ready' THEN 1 ELSE 0 END,
                crashes = crashes + CASE WHEN state = 'running' THEN 1 ELSE 0 END,
                lease_token = lease_token + 1,
                lease_until = ",
            $now,
            " + $4,
                worker = $5 "
        )
    };
}

macro_rules! taken {
    () => {
        " RETURNING ms_job.shard_id, ms_job.job_id, kind, version, args, state, attempt,
            crashes, max_attempts, lease_token, trace_context"
    };
}

macro_rules! waited {
    ($now:expr) => {
        concat!(
            "SELECT ",
            $now,
            " - run_at AS waited FROM ms_job
             WHERE queue = $1 AND state IN ('ready', 'running') AND state = 'ready'
               AND run_at <= ",
            $now,
            " ORDER BY run_at LIMIT 1"
        )
    };
}

/// Node-wide, by `ms_job_due`: how long the job has waited that is due the longest.
pub(super) const WAITED: Sql = Sql::each(waited!(pg_now!()), waited!(sqlite_now!()));

/// Node-wide, by `ms_job_due`: one claim for all virtual shards of a node.
pub(super) const CLAIM: Sql = Sql::each(
    concat!(
        // Materialized, so that no more rows are locked than the limit says.
        "WITH due AS MATERIALIZED (",
        due!(
            "shard_id, job_id",
            pg_now!(),
            "SELECT 1 FROM json_to_recordset($2::json) AS k(kind text, version integer)
             WHERE k.kind = ms_job.kind AND k.version >= ms_job.version"
        ),
        " FOR UPDATE OF ms_job SKIP LOCKED) ",
        take!(pg_now!()),
        "FROM due WHERE ms_job.shard_id = due.shard_id AND ms_job.job_id = due.job_id",
        taken!(),
    ),
    concat!(
        take!(sqlite_now!()),
        "WHERE rowid IN (",
        due!(
            "rowid",
            sqlite_now!(),
            "SELECT 1 FROM json_each($2) AS k WHERE k.value ->> 'kind' = ms_job.kind
             AND k.value ->> 'version' >= ms_job.version"
        ),
        ")",
        taken!(),
    ),
);

/// Node-wide, by the primary key: all leases of a worker on a node at once.
///
/// A row that a handler's open transaction completes is passed over, or it
/// would hold up the renewal of all others.
pub(super) const RENEW: Sql = Sql::each(
    concat!(
        "WITH held AS MATERIALIZED (
            SELECT ms_job.shard_id, ms_job.job_id FROM ms_job
            JOIN json_to_recordset($2::json) AS l(shard integer, id uuid, token bigint)
              ON ms_job.shard_id = l.shard AND ms_job.job_id = l.id
            WHERE ms_job.lease_token = l.token AND ms_job.worker = $1 AND ms_job.state = 'running'
            FOR UPDATE OF ms_job SKIP LOCKED)
         UPDATE ms_job SET lease_until = ",
        pg_now!(),
        " + $3 FROM held WHERE ms_job.shard_id = held.shard_id AND ms_job.job_id = held.job_id
         RETURNING ms_job.job_id, lease_token"
    ),
    concat!(
        "UPDATE ms_job SET lease_until = ",
        sqlite_now!(),
        " + $3 FROM (SELECT value ->> 'shard' AS shard, unhex(value ->> 'id') AS id,
                value ->> 'token' AS token FROM json_each($2)) AS l
         WHERE ms_job.shard_id = l.shard AND ms_job.job_id = l.id AND lease_token = l.token
           AND worker = $1 AND state = 'running'
         RETURNING job_id, lease_token"
    ),
);

macro_rules! settle {
    ($now:expr, $endings:expr) => {
        concat!(
            "UPDATE ms_job SET
                state = e.state,
                run_at = CASE WHEN e.delay IS NULL THEN run_at ELSE ",
            $now,
            " + e.delay END,
                attempt = attempt - e.refund,
                last_error = coalesce(e.error, last_error),
                result = e.result,
                finished_at = CASE WHEN e.state IN ('done', 'dead') THEN ",
            $now,
            " END,
                lease_until = NULL,
                worker = NULL
             FROM ",
            $endings,
            " WHERE ms_job.shard_id = e.shard AND ms_job.job_id = e.id
               AND lease_token = e.token AND worker = $1 AND ms_job.state = 'running'
             RETURNING job_id, lease_token"
        )
    };
}

/// Node-wide, by the primary key: the ends of many runs at once, each fenced by
/// worker and token.
pub(super) const SETTLE: Sql = Sql::each(
    settle!(
        pg_now!(),
        "json_to_recordset($2::json) AS e(shard integer, id uuid, token bigint, state text,
            delay bigint, refund integer, error text, result text)"
    ),
    settle!(
        sqlite_now!(),
        "(SELECT value ->> 'shard' AS shard, unhex(value ->> 'id') AS id,
            value ->> 'token' AS token, value ->> 'state' AS state,
            value ->> 'delay' AS delay, value ->> 'refund' AS refund,
            value ->> 'error' AS error, value ->> 'result' AS result FROM json_each($2)) AS e"
    ),
);

macro_rules! complete {
    ($now:expr) => {
        concat!(
            "UPDATE ms_job SET state = 'done', finished_at = ",
            $now,
            ", lease_until = NULL, worker = NULL
             WHERE shard_id = $1 AND job_id = $2 AND worker = $3 AND lease_token = $4
               AND state = 'running'"
        )
    };
}

pub(super) const COMPLETE: Sql = Sql::each(complete!(pg_now!()), complete!(sqlite_now!()));
