//! The one place that speaks SQL about jobs.
//!
//! Leases are judged by the database's clock: of all writers of a row, each
//! sees the same one. A lease is a worker's, in one row of `ms_worker` per node
//! and life; a job's row says under which it runs. Statements marked *node-wide* serve no single key and
//! have an index of their own; all others name `shard_id` by equality.

#[macro_use]
mod now;
#[macro_use]
mod history;
#[macro_use]
mod tagged;

mod announce;
mod cancel;
mod claim;
mod dead;
mod depth;
#[cfg(feature = "testkit")]
mod due;
mod enqueue;
mod lease;
mod pause;
mod run;
#[cfg(feature = "testkit")]
mod seen;
mod statement;
mod sweep;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::time::Duration;

use maxscale_core::clock::Timestamp;
use maxscale_core::fact::{TraceContext, VirtualShard};
use maxscale_core::id::Id;
use maxscale_shard::{Database, Row, Shard, ShardError, Tx};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::dead::DeadReason;
use crate::explain::Explanation;
use crate::job::{JobId, JobState, JobStatus};
use crate::options::EnqueueOptions;

use statement::{COMPLETE, EXPLAIN, FIND, SETTLE, WAITED};

pub(crate) use announce::{CHANNEL, announce, announces};
pub(crate) use cancel::{asked, cancel, cancel_tagged, stop};
pub(crate) use claim::{Claimed, Wanted, claim, give_back, promote};
#[cfg(feature = "testkit")]
pub(crate) use claim::{Form, claim_by};
pub(crate) use dead::{
    bring_back, letter_of, list as list_dead, now, pick as pick_dead, purge as purge_dead,
    set_apart,
};
pub(crate) use depth::{Depth, depth};
#[cfg(feature = "testkit")]
pub(crate) use due::{due, pass};
pub(crate) use enqueue::{Common, NewJob, enqueue, insert, insert_many};
pub(crate) use lease::{bury, enter, leave, renew, rescue};
pub(crate) use pause::{pause, paused, resume};
pub(crate) use run::{keep, progress, steps};
#[cfg(feature = "testkit")]
pub(crate) use seen::{Seen, seen, wipe};
pub(crate) use sweep::{expire, prune};

/// The right to run a job and to end it, until another claim takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Lease {
    pub(crate) shard: VirtualShard,
    pub(crate) job: JobId,
    /// Which life of which worker; a worker that starts again is another one.
    pub(crate) worker: Uuid,
    pub(crate) token: i64,
}

/// What a run knows besides its arguments.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) lease: Lease,
    pub(crate) version: u32,
    pub(crate) attempt: u32,
    pub(crate) max_attempts: u32,
    pub(crate) crashes: u32,
    /// How long a run may take, if the enqueue said.
    pub(crate) timeout: Option<Duration>,
    /// What an earlier run left for this one, as JSON.
    pub(crate) checkpoint: Option<String>,
    /// Of the enqueue in what was claimed, of the run in what a handler sees.
    pub(crate) trace: Option<TraceContext>,
}

/// How a run ends in its row.
#[derive(Clone, Debug)]
pub(crate) enum Ending {
    Done {
        result: Option<String>,
    },
    Retry {
        after: Duration,
        error: String,
    },
    Dead {
        reason: String,
    },
    /// The arguments are not what the handler takes.
    Undecodable {
        reason: String,
    },
    Snooze {
        after: Duration,
    },
    Continue {
        checkpoint: String,
    },
    Cancelled {
        reason: String,
    },
    HandBack,
}

/// An end of a run on its way into its row.
#[derive(Clone, Debug)]
pub(crate) struct Ended {
    pub(crate) lease: Lease,
    pub(crate) ending: Ending,
    pub(crate) ran: Duration,
}

/// How long the job of `queue` has waited that is due the longest on a node.
pub(crate) async fn waited(
    database: &Database,
    queue: &str,
) -> Result<Option<Duration>, ShardError> {
    let asked = database.fetch_optional(WAITED.statement().bind(queue));
    let Some(row) = asked.await? else {
        return Ok(None);
    };
    let micros: i64 = row.get("waited")?;
    Ok(Some(Duration::from_micros(micros.unsigned_abs())))
}

pub(crate) async fn find(shard: &Shard, id: JobId) -> Result<Option<JobStatus>, ShardError> {
    let statement = FIND.statement().bind(shard.id()).bind(id);
    let row = shard.fetch_optional(statement).await?;
    row.as_ref().map(status).transpose()
}

/// All that its row says of a job.
pub(crate) async fn explain(shard: &Shard, id: JobId) -> Result<Option<Explanation>, ShardError> {
    let statement = EXPLAIN.statement().bind(shard.id()).bind(id);
    let Some(row) = shard.fetch_optional(statement).await? else {
        return Ok(None);
    };
    let history: Option<String> = row.get("history")?;
    let cancelled: Option<i64> = row.get("cancel_at")?;
    Ok(Some(Explanation {
        status: status(&row)?,
        kind: row.get("kind")?,
        version: count(&row, "version")?,
        queue: row.get("queue")?,
        tenant: row.get("tenant")?,
        priority: row.get("priority")?,
        run_at: Timestamp::from_micros(row.get("run_at")?),
        max_attempts: count(&row, "max_attempts")?,
        cancelled_at: cancelled.map(Timestamp::from_micros),
        history: history::read(history.as_deref().unwrap_or_default()),
    }))
}

fn status(row: &Row) -> Result<JobStatus, ShardError> {
    let state: String = row.get("state")?;
    let state = JobState::parse(&state).ok_or_else(|| unreadable("state", "no such state"))?;
    let finished: Option<i64> = row.get("finished_at")?;
    let dead: Option<String> = row.get("reason")?;
    Ok(JobStatus {
        state,
        attempt: count(row, "attempt")?,
        crashes: count(row, "crashes")?,
        last_error: row.get("last_error")?,
        dead: dead.as_deref().map(dead::reason_of).transpose()?,
        progress: value(row, "progress")?,
        result: value(row, "result")?,
        created_at: Timestamp::from_micros(row.get("created_at")?),
        finished_at: finished.map(Timestamp::from_micros),
    })
}

fn value(row: &Row, column: &str) -> Result<Option<Value>, ShardError> {
    let text: Option<String> = row.get(column)?;
    let value = text.map(|text| serde_json::from_str(&text)).transpose();
    value.map_err(|source| unreadable(column, source))
}

/// Ends runs; gives those that were still under their lease.
pub(crate) async fn settle(
    node: &Database,
    ended: &[Ended],
) -> Result<HashSet<(JobId, i64)>, ShardError> {
    let listed: Value = ended.iter().map(listed_end).collect();
    let statement = SETTLE.statement().bind(listed.to_string());
    names(&node.execute_returning(statement).await?)
}

/// Ends a run well within the caller's transaction; false if its lease is lost.
pub(crate) async fn complete(tx: &mut Tx, lease: &Lease) -> Result<bool, ShardError> {
    let statement = (COMPLETE.statement())
        .bind(lease.shard)
        .bind(lease.job)
        .bind(lease.worker)
        .bind(lease.token);
    Ok(tx.execute(statement).await? == 1)
}

// === impl Ending ===

impl Ending {
    const fn state(&self) -> JobState {
        match self {
            Self::Done { .. } => JobState::Done,
            Self::Dead { .. } | Self::Undecodable { .. } | Self::Cancelled { .. } => JobState::Dead,
            Self::Retry { .. } | Self::Snooze { .. } | Self::Continue { .. } | Self::HandBack => {
                JobState::Ready
            }
        }
    }

    /// How it is called where ends are noted or counted.
    pub(crate) const fn how(&self) -> &'static str {
        match self {
            Self::Done { .. } => "done",
            Self::Retry { .. } => "retried",
            Self::Dead { .. } | Self::Undecodable { .. } => "dead",
            Self::Snooze { .. } => "snoozed",
            Self::Continue { .. } => "continued",
            Self::Cancelled { .. } => "cancelled",
            Self::HandBack => "handed_back",
        }
    }

    fn error(&self) -> Option<&str> {
        match self {
            Self::Retry { error, .. } => Some(error),
            Self::Dead { reason } | Self::Undecodable { reason } | Self::Cancelled { reason } => {
                Some(reason)
            }
            _ => None,
        }
    }

    /// Which way the job died, if it did.
    const fn dead(&self) -> Option<DeadReason> {
        match self {
            Self::Dead { .. } => Some(DeadReason::Failed),
            Self::Undecodable { .. } => Some(DeadReason::Undecodable),
            Self::Cancelled { .. } => Some(DeadReason::Cancelled),
            _ => None,
        }
    }
}

/// A job as the statements read it.
fn listed_job(shard: VirtualShard, job: JobId) -> Value {
    json!({
        "shard": shard.get(),
        // Without dashes both engines read it.
        "id": job.as_id().as_uuid().simple().to_string(),
    })
}

/// A lease as the statements read it.
fn listed(lease: &Lease) -> Value {
    let mut row = listed_job(lease.shard, lease.job);
    row["worker"] = lease.worker.simple().to_string().into();
    row["token"] = lease.token.into();
    row
}

/// A lease and its end as the statement reads them; what is left out is NULL.
/// Without a delay the job keeps its place in its queue.
fn listed_end(ended: &Ended) -> Value {
    let Ended { lease, ending, ran } = ended;
    let mut row = listed(lease);
    row["state"] = ending.state().as_str().into();
    row["error"] = (ending.error())
        .map(|error| storable(error, MAX_ERROR_CHARS))
        .into();
    row["reason"] = ending.dead().map(DeadReason::as_str).into();
    row["event"] = history::event(ending, lease.token, *ran).into();
    // What the attempt that ends here is given back.
    row["refund"] = 0.into();
    match ending {
        Ending::Done { result } => row["result"] = result.as_deref().into(),
        Ending::Retry { after, .. } => row["delay"] = wait(*after).into(),
        Ending::Snooze { after } => {
            row["delay"] = wait(*after).into();
            row["refund"] = 1.into();
        }
        Ending::Continue { checkpoint } => {
            // Behind what waits already.
            row["delay"] = 0.into();
            row["refund"] = 1.into();
            row["checkpoint"] = checkpoint.as_str().into();
        }
        Ending::Cancelled { .. } => row["cancelled"] = 1.into(),
        Ending::HandBack => row["refund"] = 1.into(),
        Ending::Dead { .. } | Ending::Undecodable { .. } => {}
    }
    row
}

/// No job is put off for ever.
fn wait(after: Duration) -> i64 {
    micros(after.min(EnqueueOptions::MAX_DELAY))
}

const MAX_ERROR_CHARS: usize = 2_000;

/// PostgreSQL stores no NUL, and nobody reads a megabyte of error.
fn storable(text: &str, most: usize) -> String {
    let chars = text.chars().take(most);
    chars
        .map(|c| if c == '\0' { '\u{fffd}' } else { c })
        .collect()
}

fn names(rows: &[Row]) -> Result<HashSet<(JobId, i64)>, ShardError> {
    rows.iter()
        .map(|row| Ok((job_id(row)?, row.get("lease_token")?)))
        .collect()
}

fn job_id(row: &Row) -> Result<JobId, ShardError> {
    row.get::<Id>("job_id").map(JobId::from)
}

fn count(row: &Row, column: &str) -> Result<u32, ShardError> {
    u32::try_from(row.get::<i64>(column)?).map_err(|source| unreadable(column, source))
}

fn unreadable(column: &str, source: impl Into<maxscale_core::BoxError>) -> ShardError {
    ShardError::Column {
        column: column.to_owned(),
        source: source.into(),
    }
}

fn micros(span: Duration) -> i64 {
    // A quarter of the range: added to any moment it does not overflow.
    i64::try_from(span.as_micros()).map_or(i64::MAX / 4, |micros| micros.min(i64::MAX / 4))
}
