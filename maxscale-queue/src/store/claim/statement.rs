//! The texts of what takes jobs: promotion, claims, and what a claim lost.
//!
//! Each has its clock in it: `statement_timestamp()`, `unixepoch()`. None takes a
//! row that another transaction holds, and each looks at a row again once it has
//! it: `lease_token` tells whether somebody had it in between.

use maxscale_shard::Sql;

// A job of an older program has no slot: it is of its virtual shard, as one
// without a tenant.
macro_rules! promoted {
    () => {
        "UPDATE ms_job SET rank = run_at - CAST(priority AS bigint) * 60000000,
            slot = coalesce(slot, ms_job.shard_id % 64) "
    };
}

macro_rules! timed {
    ($columns:expr, $now:expr) => {
        concat!(
            "SELECT ",
            $columns,
            " FROM ms_job WHERE state = 'ready' AND rank IS NULL AND run_at <= ",
            $now,
            " ORDER BY run_at LIMIT $1"
        )
    };
}

/// Node-wide, by `ms_job_timed`: those whose time has come get their place.
pub(super) const PROMOTE: Sql = Sql::each(
    concat!(
        "WITH due AS MATERIALIZED (",
        timed!("shard_id, job_id", pg_now!()),
        " FOR UPDATE SKIP LOCKED) ",
        promoted!(),
        "FROM due WHERE ms_job.shard_id = due.shard_id AND ms_job.job_id = due.job_id"
    ),
    concat!(
        promoted!(),
        "WHERE rowid IN (",
        timed!("rowid", sqlite_now!()),
        ")"
    ),
);

// The slots of a queue that have something, one index probe each.
macro_rules! slots {
    () => {
        "slots AS (
            SELECT * FROM (SELECT slot FROM ms_job
                WHERE queue = $1 AND state = 'ready' AND rank IS NOT NULL AND crashes = 0
                ORDER BY slot LIMIT 1) AS first
            UNION ALL
            SELECT (SELECT j.slot FROM ms_job AS j
                WHERE j.queue = $1 AND j.slot > slots.slot
                  AND j.state = 'ready' AND j.rank IS NOT NULL AND j.crashes = 0
                ORDER BY j.slot LIMIT 1)
            FROM slots WHERE slots.slot IS NOT NULL)"
    };
}

// Which of the rows at the front may be claimed. An older program that puts off
// a job leaves its rank as it was.
macro_rules! wanted {
    ($now:expr, $kinds:expr, $skipped:expr) => {
        concat!(
            "queue = $1 AND state = 'ready' AND rank IS NOT NULL AND run_at <= ",
            $now,
            " AND (expires_at IS NULL OR expires_at > ",
            $now,
            ") AND cancel_at IS NULL AND ",
            $kinds,
            " AND ",
            $skipped
        )
    };
}

macro_rules! pg_wanted {
    ($skipped:expr) => {
        wanted!(
            pg_now_once!(),
            // Parsed once. No subquery over its rows: that would be joined to all that waits.
            "version <= ((SELECT $2::jsonb) -> kind)::integer",
            $skipped
        )
    };
}

macro_rules! sqlite_wanted {
    ($skipped:expr) => {
        wanted!(
            sqlite_now!(),
            "EXISTS (SELECT 1 FROM json_each($2) AS k
                WHERE k.key = ms_job.kind AND k.value >= ms_job.version)",
            $skipped
        )
    };
}

// The worker lives, and its queue does not stand still.
macro_rules! may {
    ($now:expr) => {
        concat!(
            "EXISTS (SELECT 1 FROM ms_worker AS w
                WHERE w.incarnation = $4 AND w.lease_until > ",
            $now,
            ")
             AND NOT EXISTS (SELECT 1 FROM ms_queue_pause AS p WHERE p.queue = $1)"
        )
    };
}

macro_rules! take {
    () => {
        "UPDATE ms_job SET state = 'running', attempt = attempt + 1,
            lease_token = lease_token + 1, lease_until = NULL, worker = $4 "
    };
}

macro_rules! taken {
    ($now:expr) => {
        concat!(
            " RETURNING ms_job.shard_id, ms_job.job_id, kind, version, args, sealed_by, attempt,
            crashes, max_attempts, lease_token, trace_context, slot, timeout, checkpoint, ",
            $now,
            " - run_at AS waited"
        )
    };
}

// The front of each slot, the first of each before all seconds, beginning with the
// slot after the one that was served last.
macro_rules! pg_fronts {
    ($slots:expr, $most:expr, $from:expr) => {
        concat!(
            "SELECT front.*, s.slot, (s.slot + 63 - $7) % 64 AS turn FROM ",
            $slots,
            " AS s, LATERAL (
                SELECT shard_id, job_id, lease_token, row_number() OVER (ORDER BY rank) AS nth
                FROM (SELECT shard_id, job_id, lease_token, rank FROM ms_job WHERE ",
            pg_wanted!("shard_id <> ALL($6)"),
            " AND crashes = 0 AND slot = s.slot
                    ORDER BY rank LIMIT ",
            $most,
            " OFFSET ",
            $from,
            ") AS first) AS front
            ORDER BY front.nth, turn"
        )
    };
}

// Row by row, in the order of what was picked, by the primary key: a join would be
// planned as one with all that waits.
macro_rules! pg_locked {
    ($picked:expr, $most:expr) => {
        concat!(
            "SELECT j.shard_id, j.job_id FROM ",
            $picked,
            " AS picked, LATERAL (
                SELECT shard_id, job_id, lease_token FROM ms_job
                WHERE shard_id = picked.shard_id AND job_id = picked.job_id AND state = 'ready'
                FOR UPDATE SKIP LOCKED) AS j
            WHERE j.lease_token = picked.lease_token AND ",
            may!(pg_now!()),
            " LIMIT ",
            $most
        )
    };
}

/// Node-wide, by `ms_job_place`: one claim for all virtual shards of a node.
///
/// From each slot that has something comes its share. If that is not enough, because
/// others are at the same rows or few slots have much, those that gave their whole
/// share are read on, for four times what is wanted in all.
pub(super) const CLAIM: Sql = Sql::each(
    concat!(
        "WITH RECURSIVE ",
        slots!(),
        ",
        share AS (SELECT 1 + $3 / greatest(count(slot), 1) AS most FROM slots),
        near AS MATERIALIZED (",
        pg_fronts!("slots", "(SELECT most FROM share)", "0"),
        "),
        fair AS MATERIALIZED (",
        pg_locked!("near", "$3"),
        "),
        more AS MATERIALIZED (
            SELECT slot FROM near WHERE $3 > (SELECT count(*) FROM fair)
            GROUP BY slot HAVING count(*) = (SELECT most FROM share)),
        far AS MATERIALIZED (",
        pg_fronts!(
            "more",
            "(SELECT 1 + 4 * $3 / greatest(count(*), 1) FROM more)",
            "(SELECT most FROM share)"
        ),
        "),
        rest AS MATERIALIZED (",
        pg_locked!("far", "$3 - (SELECT count(*) FROM fair)"),
        "),
        suspect AS MATERIALIZED (
            SELECT shard_id, job_id FROM ms_job WHERE ",
        pg_wanted!("shard_id <> ALL($6)"),
        " AND crashes > 0 AND ",
        may!(pg_now!()),
        " ORDER BY rank LIMIT $5 FOR UPDATE OF ms_job SKIP LOCKED) ",
        take!(),
        "FROM (SELECT * FROM fair UNION ALL SELECT * FROM rest
            UNION ALL SELECT * FROM suspect) AS mine
         WHERE ms_job.shard_id = mine.shard_id AND ms_job.job_id = mine.job_id",
        taken!(pg_now_once!()),
    ),
    concat!(
        "WITH RECURSIVE ",
        slots!(),
        ",
            share AS (SELECT 1 + 4 * $3 / (1 + count(slot)) AS most FROM slots),
            due AS (
                SELECT j.rowid AS place, (slots.slot + 63 - $7) % 64 AS turn,
                    row_number() OVER (PARTITION BY slots.slot ORDER BY j.rank) AS nth
                FROM slots CROSS JOIN ms_job AS j WHERE j.rowid IN (
                    SELECT rowid FROM ms_job WHERE ",
        sqlite_wanted!("shard_id NOT IN (SELECT value FROM json_each($6))"),
        " AND crashes = 0 AND slot = slots.slot
                    ORDER BY rank LIMIT (SELECT most FROM share))) ",
        take!(),
        "WHERE rowid IN (
            SELECT place FROM (SELECT place FROM due ORDER BY nth, turn LIMIT $3) AS fair
            UNION ALL
            SELECT place FROM (SELECT rowid AS place FROM ms_job WHERE ",
        sqlite_wanted!("shard_id NOT IN (SELECT value FROM json_each($6))"),
        " AND crashes > 0 ORDER BY rank LIMIT $5) AS suspect)
         AND ",
        may!(sqlite_now!()),
        taken!(sqlite_now!()),
    ),
);

/// Node-wide, by `ms_job_place`: the virtual shards of a queue that have something.
pub(super) const WAITING: Sql = Sql::both(
    "SELECT DISTINCT shard_id FROM ms_job
     WHERE queue = $1 AND state = 'ready' AND rank IS NOT NULL",
);

macro_rules! first_of_shard {
    ($column:expr, $wanted:expr, $crashes:expr, $may:expr, $most:expr) => {
        concat!(
            "SELECT ",
            $column,
            " FROM ms_job WHERE ",
            $wanted,
            " AND crashes ",
            $crashes,
            " AND ",
            $may,
            " ORDER BY rank LIMIT ",
            $most
        )
    };
}

macro_rules! pg_first_of_shard {
    ($crashes:expr, $most:expr) => {
        concat!(
            first_of_shard!(
                "job_id",
                pg_wanted!("shard_id = $6"),
                $crashes,
                may!(pg_now!()),
                $most
            ),
            " FOR UPDATE OF ms_job SKIP LOCKED"
        )
    };
}

macro_rules! sqlite_first_of_shard {
    ($crashes:expr, $most:expr) => {
        concat!(
            "SELECT job_id FROM (",
            first_of_shard!(
                "job_id",
                sqlite_wanted!("shard_id = $6"),
                $crashes,
                may!(sqlite_now!()),
                $most
            ),
            ") AS first"
        )
    };
}

/// A claim for one virtual shard, which locks as it reads: what it has locked is what
/// it has looked at.
pub(super) const CLAIM_ON: Sql = Sql::each(
    concat!(
        "WITH fair AS MATERIALIZED (",
        pg_first_of_shard!("= 0", "$3"),
        "),
        suspect AS MATERIALIZED (",
        pg_first_of_shard!("> 0", "$5"),
        ") ",
        take!(),
        "FROM (SELECT * FROM fair UNION ALL SELECT * FROM suspect) AS mine
         WHERE ms_job.shard_id = $6 AND ms_job.job_id = mine.job_id",
        taken!(pg_now_once!()),
    ),
    concat!(
        take!(),
        "WHERE shard_id = $6 AND job_id IN (",
        sqlite_first_of_shard!("= 0", "$3"),
        " UNION ALL ",
        sqlite_first_of_shard!("> 0", "$5"),
        ")",
        taken!(sqlite_now!()),
    ),
);

macro_rules! give_back {
    ($history:expr) => {
        concat!(
            "UPDATE ms_job SET state = 'ready', attempt = attempt - 1,
            lease_token = lease_token + 1, worker = NULL, ",
            $history,
            " "
        )
    };
}

macro_rules! stray {
    () => {
        "'{\"how\":\"stray\"}'"
    };
}

/// Node-wide, by `ms_job_held`: what a worker has by its rows and knows nothing of
/// goes back, at no cost: the reply to its claim was lost, or to its settlement.
pub(super) const GIVE_BACK: Sql = Sql::each(
    concat!(
        "WITH stray AS MATERIALIZED (
            SELECT shard_id, job_id FROM ms_job
            WHERE worker = $1 AND state = 'running' AND NOT EXISTS (
                SELECT 1 FROM json_to_recordset($2::json) AS l(shard integer, id uuid, token bigint)
                WHERE l.shard = ms_job.shard_id AND l.id = ms_job.job_id
                  AND l.token = ms_job.lease_token)
            FOR UPDATE OF ms_job SKIP LOCKED) ",
        give_back!(pg_history!(stray!())),
        "FROM stray WHERE ms_job.shard_id = stray.shard_id AND ms_job.job_id = stray.job_id"
    ),
    concat!(
        give_back!(sqlite_history!(stray!())),
        "WHERE worker = $1 AND state = 'running' AND NOT EXISTS (
            SELECT 1 FROM json_each($2) AS l
            WHERE l.value ->> 'shard' = ms_job.shard_id
              AND unhex(l.value ->> 'id') = ms_job.job_id
              AND l.value ->> 'token' = ms_job.lease_token)"
    ),
);
