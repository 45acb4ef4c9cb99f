//! The texts of dead letters.
//!
//! What is dead goes from `ms_job` to `ms_job_dead` and, when it is replayed, back:
//! copied and deleted in one transaction, by the rows that were locked for it.

use maxscale_shard::Sql;

pub(super) const NOW: Sql = Sql::each(
    concat!("SELECT ", pg_now!(), " AS now"),
    concat!("SELECT ", sqlite_now!(), " AS now"),
);

macro_rules! pg_listed {
    () => {
        "json_to_recordset($1::json) AS l(shard integer, id uuid, after bigint)"
    };
}

macro_rules! sqlite_listed {
    () => {
        "(SELECT value ->> 'shard' AS shard, unhex(value ->> 'id') AS id,
            value ->> 'after' AS after FROM json_each($1)) AS l"
    };
}

/// Node-wide, by `ms_job_ended_dead`: what is dead and still among the others.
pub(super) const LEFT: Sql = Sql::both(
    "SELECT shard_id, job_id FROM ms_job WHERE state = 'dead' AND finished_at > 0
     ORDER BY finished_at LIMIT $1",
);

// Older programs tell the reason in the text alone.
macro_rules! set_apart {
    ($listed:expr, $lock:expr) => {
        concat!(
            "INSERT INTO ms_job_dead (shard_id, job_id, kind, version, queue, args, sealed_by, tenant,
                slot, priority, attempt, crashes, max_attempts, lease_token, trace_context, retain,
                created_at, dead_at, run_at, reason, last_error, history, tags,
                retain_dead, prune_at, timeout, checkpoint, steps, progress, cancel_at)
             SELECT j.shard_id, j.job_id, j.kind, j.version, j.queue, j.args, j.sealed_by, j.tenant, j.slot,
                j.priority, j.attempt, j.crashes, j.max_attempts, j.lease_token, j.trace_context,
                j.retain, j.created_at, j.finished_at, j.run_at,
                coalesce(j.dead_reason, CASE j.last_error WHEN 'expired' THEN 'expired'
                    WHEN 'cancelled' THEN 'cancelled' WHEN 'worker died 3 times' THEN 'poison'
                    ELSE 'failed' END),
                j.last_error, j.history, j.tags, j.retain_dead, j.finished_at + j.retain_dead,
                j.timeout, j.checkpoint, j.steps, j.progress, j.cancel_at
             FROM ",
            $listed,
            " JOIN ms_job AS j ON j.shard_id = l.shard AND j.job_id = l.id
             WHERE j.state = 'dead' ",
            $lock
        )
    };
}

/// Node-wide, by the primary key: copies what is listed and is dead.
pub(super) const SET_APART: Sql = Sql::each(
    set_apart!(pg_listed!(), "FOR UPDATE OF j SKIP LOCKED"),
    set_apart!(sqlite_listed!(), ""),
);

macro_rules! moved {
    ($from:expr, $to:expr, $and:expr, $listed:expr) => {
        concat!(
            "DELETE FROM ",
            $from,
            " WHERE (shard_id, job_id) IN (SELECT l.shard, l.id FROM ",
            $listed,
            ") AND EXISTS (SELECT 1 FROM ",
            $to,
            " AS other WHERE other.shard_id = ",
            $from,
            ".shard_id AND other.job_id = ",
            $from,
            ".job_id) ",
            $and
        )
    };
}

/// Node-wide, by the primary key: what was copied is no longer among the others.
pub(super) const TAKE_OUT: Sql = Sql::each(
    moved!("ms_job", "ms_job_dead", "AND state = 'dead'", pg_listed!()),
    moved!(
        "ms_job",
        "ms_job_dead",
        "AND state = 'dead'",
        sqlite_listed!()
    ),
);

// What is asked for by no reason is not what somebody cancelled.
macro_rules! wanted {
    ($tagged:expr) => {
        concat!(
            "dead_at >= $1 AND dead_at <= $2 AND (CAST($3 AS text) IS NULL OR queue = $3)
         AND (CAST($4 AS text) IS NULL OR kind = $4)
         AND CASE WHEN CAST($5 AS text) IS NULL THEN reason <> 'cancelled' ELSE reason = $5 END
         AND (CAST($6 AS text) IS NULL OR ",
            $tagged,
            ")"
        )
    };
}

macro_rules! pick {
    ($tagged:expr) => {
        concat!(
            "SELECT shard_id, job_id FROM ms_job_dead WHERE ",
            wanted!($tagged),
            " ORDER BY dead_at, job_id LIMIT $7"
        )
    };
}

/// Node-wide, by `ms_job_dead_at`: those that a filter names, the oldest first.
pub(super) const PICK: Sql = Sql::each(pick!(pg_tagged!("$6")), pick!(sqlite_tagged!("$6")));

macro_rules! letter {
    () => {
        "SELECT shard_id, job_id, kind, version, queue, args, sealed_by, tenant, attempt, crashes, reason,
            last_error, history, tags, created_at, dead_at FROM ms_job_dead WHERE "
    };
}

macro_rules! list {
    ($tagged:expr) => {
        concat!(
            letter!(),
            wanted!($tagged),
            " AND (dead_at, job_id) > ($8, $9) ORDER BY dead_at, job_id LIMIT $7"
        )
    };
}

/// Node-wide, by `ms_job_dead_at`: a page of them.
pub(super) const LIST: Sql = Sql::each(list!(pg_tagged!("$6")), list!(sqlite_tagged!("$6")));

pub(super) const FIND: Sql = Sql::both(concat!(letter!(), "shard_id = $1 AND job_id = $2"));

// Its token goes on from where it was: who ran it before cannot end it now. What its
// parts did stays done.
macro_rules! bring_back {
    ($now:expr, $listed:expr, $lock:expr) => {
        concat!(
            "INSERT INTO ms_job (shard_id, job_id, kind, version, queue, args, sealed_by, tenant,
                slot, priority, attempt, crashes, max_attempts, lease_token, trace_context, retain,
                retain_dead, created_at, last_error, history, tags, timeout, checkpoint, steps, progress,
                state, run_at)
             SELECT d.shard_id, d.job_id, d.kind, d.version, d.queue, d.args, d.sealed_by, d.tenant, d.slot,
                d.priority, 0, 0, d.max_attempts, d.lease_token + 1, d.trace_context, d.retain,
                d.retain_dead, d.created_at, d.last_error, d.history, d.tags, d.timeout, d.checkpoint,
                d.steps, d.progress, 'ready', ",
            $now,
            " + l.after
             FROM ",
            $listed,
            " JOIN ms_job_dead AS d ON d.shard_id = l.shard AND d.job_id = l.id
             WHERE d.dead_at > 0 ",
            $lock
        )
    };
}

/// Node-wide, by the primary key: what is listed waits again, each for its time.
pub(super) const BRING_BACK: Sql = Sql::each(
    bring_back!(pg_now!(), pg_listed!(), "FOR UPDATE OF d SKIP LOCKED"),
    bring_back!(sqlite_now!(), sqlite_listed!(), ""),
);

/// Node-wide, by the primary key: what waits again is dead no more.
pub(super) const FORGIVE: Sql = Sql::each(
    moved!("ms_job_dead", "ms_job", "", pg_listed!()),
    moved!("ms_job_dead", "ms_job", "", sqlite_listed!()),
);

/// Node-wide, by the primary key.
pub(super) const PURGE: Sql = Sql::each(
    concat!(
        "DELETE FROM ms_job_dead USING ",
        pg_listed!(),
        " WHERE ms_job_dead.shard_id = l.shard AND ms_job_dead.job_id = l.id"
    ),
    concat!(
        "DELETE FROM ms_job_dead WHERE rowid IN (SELECT d.rowid FROM ",
        sqlite_listed!(),
        " JOIN ms_job_dead AS d ON d.shard_id = l.shard AND d.job_id = l.id)"
    ),
);

macro_rules! old {
    ($columns:expr, $now:expr) => {
        concat!(
            "SELECT ",
            $columns,
            " FROM ms_job_dead WHERE prune_at <= ",
            $now,
            " ORDER BY prune_at LIMIT $1"
        )
    };
}

/// Node-wide, by `ms_job_dead_old`: what was kept for long enough.
pub(super) const PRUNE: Sql = Sql::each(
    concat!(
        "DELETE FROM ms_job_dead WHERE (shard_id, job_id) IN (",
        old!("shard_id, job_id", pg_now!()),
        " FOR UPDATE SKIP LOCKED)"
    ),
    concat!(
        "DELETE FROM ms_job_dead WHERE (shard_id, job_id) IN (",
        old!("shard_id, job_id", sqlite_now!()),
        ")"
    ),
);
