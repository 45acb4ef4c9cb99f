//! What tests ask of a node, and do to it: is something due, and let time go by.

use std::time::Duration;

use maxscale_shard::{Database, ShardError, Sql};

use super::micros;

macro_rules! due {
    ($now:expr, $kinds:expr) => {
        concat!(
            "SELECT 1 AS one FROM ms_job
             WHERE queue = $1 AND state IN ('ready', 'running') AND state = 'ready'
               AND run_at <= ",
            $now,
            " AND (expires_at IS NULL OR expires_at > ",
            $now,
            ") AND cancel_at IS NULL AND ",
            $kinds,
            " AND NOT EXISTS (SELECT 1 FROM ms_queue_pause AS p WHERE p.queue = $1)
             LIMIT 1"
        )
    };
}

/// Node-wide, by `ms_job_due`: one that a worker with these kinds would claim.
const DUE: Sql = Sql::each(
    due!(pg_now!(), "version <= ($2::jsonb ->> kind)::integer"),
    due!(
        sqlite_now!(),
        "EXISTS (SELECT 1 FROM json_each($2) AS k
            WHERE k.key = ms_job.kind AND k.value >= ms_job.version)"
    ),
);

/// Node-wide, by every row: what waits or lies there is older.
const PASS: Sql = Sql::both(
    "UPDATE ms_job SET run_at = run_at - $1, rank = rank - $1, created_at = created_at - $1,
        expires_at = expires_at - $1, finished_at = finished_at - $1, prune_at = prune_at - $1",
);

/// Node-wide, by every row: the same of what is dead.
const PASS_DEAD: Sql = Sql::both(
    "UPDATE ms_job_dead SET run_at = run_at - $1, created_at = created_at - $1,
        dead_at = dead_at - $1, prune_at = prune_at - $1",
);

/// Node-wide, by every row: what may not be enqueued again may be that much sooner.
const PASS_UNIQUE: Sql =
    Sql::both("UPDATE ms_job_unique SET until = until - $1, look_at = look_at - $1");

/// Whether there is a job of the queue for a worker with `kinds`, as for a claim.
pub(crate) async fn due(node: &Database, queue: &str, kinds: &str) -> Result<bool, ShardError> {
    let statement = DUE.statement().bind(queue).bind(kinds);
    // Asked of the writer: a replica may not have it yet.
    Ok(!node.execute_returning(statement).await?.is_empty())
}

/// Makes all rows as old as if `time` had passed.
pub(crate) async fn pass(node: &Database, time: Duration) -> Result<(), ShardError> {
    let mut tx = node.begin().await?;
    for text in [PASS, PASS_DEAD, PASS_UNIQUE] {
        tx.execute(text.statement().bind(micros(time))).await?;
    }
    tx.commit().await.map(drop)
}
