//! All of a job's row that the suite looks at.

use maxscale_shard::{Database, Shard, ShardError, Sql};
use uuid::Uuid;

use super::{count, unreadable};
use crate::job::{JobId, JobState};

/// A job's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) state: JobState,
    pub(crate) attempt: u32,
    pub(crate) crashes: u32,
    pub(crate) token: i64,
    pub(crate) worker: Option<Uuid>,
    pub(crate) run_at: i64,
    pub(crate) rank: Option<i64>,
    pub(crate) finished_at: Option<i64>,
    pub(crate) prune_at: Option<i64>,
    pub(crate) last_error: Option<String>,
    pub(crate) history: Option<String>,
    pub(crate) dead_reason: Option<String>,
    pub(crate) result: Option<String>,
    pub(crate) checkpoint: Option<String>,
    pub(crate) cancel_at: Option<i64>,
}

const SEEN: Sql = Sql::both(
    "SELECT state, attempt, crashes, lease_token, worker, run_at, rank, finished_at, prune_at,
        last_error, history, dead_reason, result, checkpoint, cancel_at
     FROM ms_job WHERE shard_id = $1 AND job_id = $2",
);

/// Node-wide, by `ms_job_due`: everything in a queue.
const WIPE: Sql = Sql::both("DELETE FROM ms_job WHERE queue = $1");

pub(crate) async fn seen(shard: &Shard, id: JobId) -> Result<Option<Seen>, ShardError> {
    // Asked of the writer: a replica may not have it yet.
    let statement = SEEN.statement().bind(shard.id()).bind(id);
    let rows = shard.node().database().execute_returning(statement).await?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    let state: String = row.get("state")?;
    Ok(Some(Seen {
        state: JobState::parse(&state).ok_or_else(|| unreadable("state", "no such state"))?,
        attempt: count(row, "attempt")?,
        crashes: count(row, "crashes")?,
        token: row.get("lease_token")?,
        worker: row.get("worker")?,
        run_at: row.get("run_at")?,
        rank: row.get("rank")?,
        finished_at: row.get("finished_at")?,
        prune_at: row.get("prune_at")?,
        last_error: row.get("last_error")?,
        history: row.get("history")?,
        dead_reason: row.get("dead_reason")?,
        result: row.get("result")?,
        checkpoint: row.get("checkpoint")?,
        cancel_at: row.get("cancel_at")?,
    }))
}

pub(crate) async fn wipe(node: &Database, queue: &str) -> Result<(), ShardError> {
    node.execute(WIPE.statement().bind(queue)).await.map(drop)
}
