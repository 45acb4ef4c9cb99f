//! The texts of enqueues.

use maxscale_shard::Sql;

// A minute per level of priority: what waits long enough comes before what is
// more urgent. A job that is due at once has its place from the start.
macro_rules! insert {
    ($now:expr, $listed:expr) => {
        concat!(
            "INSERT INTO ms_job (shard_id, job_id, args, sealed_by, slot, kind, version, queue, max_attempts,
                trace_context, run_at, priority, rank, tenant, expires_at, retain, retain_dead, tags,
                timeout,
                state, attempt, crashes, lease_token, created_at)
             SELECT l.shard, l.id, l.args, l.sealed, l.slot, $2, $3, $4, $5, $6,
                coalesce($7, ",
            $now,
            ") + $8, $9,
                CASE WHEN coalesce($7, ",
            $now,
            ") + $8 <= ",
            $now,
            " THEN coalesce($7, ",
            $now,
            ") + $8 - $9 * 60000000 END,
                $10, coalesce($7, ",
            $now,
            ") + $8 + $11, $12, $13, $14, $15, 'ready', 0, 0, 0, ",
            $now,
            " FROM ",
            $listed
        )
    };
}

/// Node-wide, by the primary key: jobs of one kind, one or many.
pub(super) const INSERT: Sql = Sql::each(
    insert!(
        pg_now_once!(),
        "json_to_recordset($1::json) AS l(shard integer, id uuid, args text, sealed text, slot integer)"
    ),
    insert!(
        sqlite_now!(),
        "(SELECT value ->> 'shard' AS shard, unhex(value ->> 'id') AS id,
            value ->> 'args' AS args, value ->> 'sealed' AS sealed,
            value ->> 'slot' AS slot FROM json_each($1)) AS l"
    ),
);

macro_rules! hold {
    ($now:expr) => {
        concat!(
            "INSERT INTO ms_job_unique (shard_id, unique_key, job_id, until, look_at)
             VALUES ($1, $2, $3, ",
            $now,
            " + $4, ",
            $now,
            " + $4)
             ON CONFLICT (shard_id, unique_key) DO UPDATE SET job_id = ms_job_unique.job_id
             RETURNING job_id"
        )
    };
}

/// Waits for whoever inserts the same, and holds the row in any case: what follows
/// sees what he committed.
pub(super) const HOLD: Sql = Sql::each(hold!(pg_now!()), hold!(sqlite_now!()));

macro_rules! holder {
    ($now:expr) => {
        concat!(
            "SELECT coalesce(j.state IN ('ready', 'running'), false) AS alive,
                coalesce(j.state = 'ready' AND j.attempt = 0 AND j.crashes = 0, false) AS untouched,
                u.until > ",
            $now,
            " AS fresh
             FROM ms_job_unique AS u
             LEFT JOIN ms_job AS j ON j.shard_id = u.shard_id AND j.job_id = u.job_id
             WHERE u.shard_id = $1 AND u.unique_key = $2"
        )
    };
}

pub(super) const HOLDER: Sql = Sql::each(holder!(pg_now!()), holder!(sqlite_now!()));

macro_rules! take_over {
    ($now:expr) => {
        concat!(
            "UPDATE ms_job_unique SET job_id = $3, until = ",
            $now,
            " + $4, look_at = ",
            $now,
            " + $4 WHERE shard_id = $1 AND unique_key = $2"
        )
    };
}

pub(super) const TAKE_OVER: Sql = Sql::each(take_over!(pg_now!()), take_over!(sqlite_now!()));

macro_rules! replace {
    ($now:expr) => {
        concat!(
            "UPDATE ms_job SET args = $3, sealed_by = $9, version = $4, priority = $5, rank = NULL,
                expires_at = coalesce($6, ",
            $now,
            ") + $7 + $8,
                run_at = coalesce($6, ",
            $now,
            ") + $7
             WHERE shard_id = $1 AND job_id = $2 AND state = 'ready'"
        )
    };
}

/// It gets its place when it is due, as what is scheduled does.
pub(super) const REPLACE: Sql = Sql::each(replace!(pg_now!()), replace!(sqlite_now!()));
