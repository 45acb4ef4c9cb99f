//! The texts of what becomes of one job: looked at, ended, cancelled.
//!
//! Each has its clock in it: `statement_timestamp()`, `unixepoch()`.

use maxscale_shard::Sql;

pub(super) const FIND: Sql = Sql::both(
    "SELECT state, attempt, crashes, last_error, dead_reason AS reason, result, created_at,
        finished_at
     FROM ms_job WHERE shard_id = $1 AND job_id = $2
     UNION ALL
     SELECT 'dead', attempt, crashes, last_error, reason, NULL, created_at, dead_at
     FROM ms_job_dead WHERE shard_id = $1 AND job_id = $2",
);

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

// The errors of the last five attempts.
macro_rules! pg_errors {
    () => {
        concat!(
            "(CASE WHEN jsonb_array_length(coalesce(errors, '[]')::jsonb) >= 5
                THEN errors::jsonb - 0 ELSE coalesce(errors, '[]')::jsonb END
             || jsonb_build_array(jsonb_build_object('at', ",
            pg_now!(),
            ", 'attempt', attempt, 'error', e.error)))::text"
        )
    };
}

macro_rules! sqlite_errors {
    () => {
        concat!(
            "json_insert(CASE WHEN json_array_length(errors) >= 5
                THEN json_remove(errors, '$[0]') ELSE coalesce(errors, '[]') END,
             '$[#]', json_object('at', ",
            sqlite_now!(),
            ", 'attempt', attempt, 'error', e.error))"
        )
    };
}

// Without a delay the job keeps its place; with one it gets another in its time.
macro_rules! settle {
    ($now:expr, $errors:expr, $endings:expr) => {
        concat!(
            "UPDATE ms_job SET
                state = e.state,
                run_at = CASE WHEN e.delay IS NULL THEN run_at ELSE ",
            $now,
            " + e.delay END,
                rank = CASE WHEN e.delay IS NULL THEN rank END,
                attempt = attempt - e.refund,
                last_error = coalesce(e.error, last_error),
                errors = CASE WHEN e.error IS NULL THEN errors ELSE ",
            $errors,
            " END,
                dead_reason = e.reason,
                result = e.result,
                finished_at = CASE WHEN e.state IN ('done', 'dead') THEN ",
            $now,
            " END,
                prune_at = CASE WHEN e.state = 'done' THEN ",
            $now,
            " + retain END,
                worker = NULL
             FROM ",
            $endings,
            " WHERE ms_job.shard_id = e.shard AND ms_job.job_id = e.id
               AND lease_token = e.token AND ms_job.worker = e.worker
               AND ms_job.state = 'running'
             RETURNING job_id, lease_token"
        )
    };
}

/// Node-wide, by the primary key: the ends of many runs at once, each fenced by
/// worker and token.
pub(super) const SETTLE: Sql = Sql::each(
    settle!(
        pg_now!(),
        pg_errors!(),
        "json_to_recordset($1::json) AS e(shard integer, id uuid, worker uuid, token bigint,
            state text, delay bigint, refund integer, error text, reason text, result text)"
    ),
    settle!(
        sqlite_now!(),
        sqlite_errors!(),
        "(SELECT value ->> 'shard' AS shard, unhex(value ->> 'id') AS id,
            unhex(value ->> 'worker') AS worker,
            value ->> 'token' AS token, value ->> 'state' AS state,
            value ->> 'delay' AS delay, value ->> 'refund' AS refund,
            value ->> 'error' AS error, value ->> 'reason' AS reason, value ->> 'result' AS result FROM json_each($1)) AS e"
    ),
);

macro_rules! complete {
    ($now:expr) => {
        concat!(
            "UPDATE ms_job SET state = 'done', finished_at = ",
            $now,
            ", prune_at = ",
            $now,
            " + retain, worker = NULL
             WHERE shard_id = $1 AND job_id = $2 AND worker = $3 AND lease_token = $4
               AND state = 'running'"
        )
    };
}

pub(super) const COMPLETE: Sql = Sql::each(complete!(pg_now!()), complete!(sqlite_now!()));

macro_rules! cancel {
    ($now:expr, $which:expr) => {
        concat!(
            "UPDATE ms_job SET state = 'dead', last_error = 'cancelled', dead_reason = 'cancelled',
                finished_at = ",
            $now,
            $which
        )
    };
}

macro_rules! this_one {
    () => {
        " WHERE shard_id = $1 AND job_id = $2 AND state = 'ready'"
    };
}

pub(super) const CANCEL: Sql = Sql::each(
    cancel!(pg_now!(), this_one!()),
    cancel!(sqlite_now!(), this_one!()),
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
    cancel!(
        pg_now!(),
        concat!(
            " FROM (",
            tagged!("shard_id, job_id", pg_now!(), pg_tagged!("$1")),
            " FOR UPDATE SKIP LOCKED) AS mine
             WHERE ms_job.shard_id = mine.shard_id AND ms_job.job_id = mine.job_id
               AND ms_job.state = 'ready'"
        )
    ),
    cancel!(
        sqlite_now!(),
        concat!(
            " WHERE rowid IN (",
            tagged!("rowid", sqlite_now!(), sqlite_tagged!("$1")),
            ")"
        )
    ),
);
