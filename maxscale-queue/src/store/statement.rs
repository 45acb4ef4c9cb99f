//! The texts of what becomes of one job: looked at, ended.

use maxscale_shard::Sql;

// A dead letter has its columns under the same names, and no result.
macro_rules! found {
    ($columns:expr) => {
        concat!(
            "SELECT ",
            $columns,
            "state, attempt, crashes, cancel_at, dead_reason AS reason, last_error, progress, result,
                created_at, finished_at
             FROM ms_job WHERE shard_id = $1 AND job_id = $2
             UNION ALL
             SELECT ",
            $columns,
            "'dead', attempt, crashes, cancel_at, reason, last_error, progress, NULL,
                created_at, dead_at
             FROM ms_job_dead WHERE shard_id = $1 AND job_id = $2"
        )
    };
}

pub(super) const FIND: Sql = Sql::both(found!(""));

pub(super) const EXPLAIN: Sql = Sql::both(found!(
    "kind, version, queue, tenant, priority, run_at, max_attempts, history, "
));

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

// Without a delay the job keeps its place; with one it gets another in its time.
macro_rules! settle {
    ($now:expr, $history:expr, $endings:expr) => {
        concat!(
            "UPDATE ms_job SET
                state = e.state,
                run_at = CASE WHEN e.delay IS NULL THEN run_at ELSE ",
            $now,
            " + e.delay END,
                rank = CASE WHEN e.delay IS NULL THEN rank END,
                attempt = attempt - e.refund,
                last_error = coalesce(e.error, last_error),
                dead_reason = e.reason,
                result = e.result,
                checkpoint = coalesce(e.checkpoint, ms_job.checkpoint),
                cancel_at = CASE WHEN e.cancelled = 1 THEN coalesce(cancel_at, ",
            $now,
            ") ELSE cancel_at END,
                ",
            $history,
            ",
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
               AND ms_job.state || '' = 'running'
             RETURNING job_id, lease_token"
        )
    };
}

/// Node-wide, by the primary key: the ends of many runs at once, each fenced by
/// worker, token and state.
///
/// The state is not compared as `ms_job_held` has it: by that index each end would be
/// looked for among all that runs, where the planner believes that to be little.
pub(super) const SETTLE: Sql = Sql::each(
    settle!(
        pg_now!(),
        pg_history!("e.event"),
        "json_to_recordset($1::json) AS e(shard integer, id uuid, worker uuid, token bigint,
            state text, delay bigint, refund integer, error text, reason text, result text,
            checkpoint text, cancelled integer, event text)"
    ),
    settle!(
        sqlite_now!(),
        sqlite_history!("e.event"),
        "(SELECT value ->> 'shard' AS shard, unhex(value ->> 'id') AS id,
            unhex(value ->> 'worker') AS worker,
            value ->> 'token' AS token, value ->> 'state' AS state,
            value ->> 'delay' AS delay, value ->> 'refund' AS refund,
            value ->> 'error' AS error, value ->> 'reason' AS reason,
            value ->> 'result' AS result, value ->> 'checkpoint' AS checkpoint,
            value ->> 'cancelled' AS cancelled, value ->> 'event' AS event
            FROM json_each($1)) AS e"
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
