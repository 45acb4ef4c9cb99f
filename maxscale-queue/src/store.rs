//! The one place that speaks SQL about jobs.
//!
//! Leases are judged by the database's clock: of all writers of a row, each
//! sees the same one. A lease is a worker's, in one row of `ms_worker` per node
//! and life; a job's row says under which it runs. Statements marked *node-wide* serve no single key and
//! have an index of their own; all others name `shard_id` by equality.

mod claim;
mod enqueue;
mod lease;
#[cfg(test)]
mod long;
mod statement;
mod sweep;

use std::collections::HashSet;
use std::time::Duration;

use maxscale_core::clock::Timestamp;
use maxscale_core::fact::{TraceContext, VirtualShard};
use maxscale_core::id::Id;
use maxscale_shard::{Database, Row, Shard, ShardError, Tx};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::job::{JobId, JobState, JobStatus};
use crate::options::EnqueueOptions;

use statement::{CANCEL, COMPLETE, FIND, SETTLE, WAITED};

pub(crate) use claim::{Claimed, Wanted, claim, give_back, promote};
pub(crate) use enqueue::{Common, NewJob, enqueue, insert, insert_many};
pub(crate) use lease::{bury, enter, leave, renew, rescue};
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
    /// Of the enqueue in what was claimed, of the run in what a handler sees.
    pub(crate) trace: Option<TraceContext>,
}

/// How a run ends in its row.
#[derive(Clone, Debug)]
pub(crate) enum Ending {
    Done { result: Option<String> },
    Retry { after: Duration, error: String },
    Dead { reason: String },
    Snooze { after: Duration },
    HandBack,
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
    let Some(row) = shard.fetch_optional(statement).await? else {
        return Ok(None);
    };
    let state: String = row.get("state")?;
    let result: Option<String> = row.get("result")?;
    let finished: Option<i64> = row.get("finished_at")?;
    Ok(Some(JobStatus {
        state: JobState::parse(&state).ok_or_else(|| unreadable("state", "no such state"))?,
        attempt: count(&row, "attempt")?,
        crashes: count(&row, "crashes")?,
        last_error: row.get("last_error")?,
        result: (result.map(|text| serde_json::from_str(&text)).transpose())
            .map_err(|source| unreadable("result", source))?,
        created_at: Timestamp::from_micros(row.get("created_at")?),
        finished_at: finished.map(Timestamp::from_micros),
    }))
}

/// Ends a job that waits; false if there is none.
pub(crate) async fn cancel(shard: &Shard, id: JobId) -> Result<bool, ShardError> {
    let statement = CANCEL.statement().bind(shard.id()).bind(id);
    Ok(shard.execute(statement).await? == 1)
}

/// Ends runs; gives those that were still under their lease.
pub(crate) async fn settle(
    node: &Database,
    endings: &[(Lease, Ending)],
) -> Result<HashSet<(JobId, i64)>, ShardError> {
    let listed: Value = endings
        .iter()
        .map(|(lease, ending)| ended(lease, ending))
        .collect();
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
            Self::Dead { .. } => JobState::Dead,
            Self::Retry { .. } | Self::Snooze { .. } | Self::HandBack => JobState::Ready,
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
fn ended(lease: &Lease, ending: &Ending) -> Value {
    let mut row = listed(lease);
    row["state"] = ending.state().as_str().into();
    // What the attempt that ends here is given back.
    row["refund"] = 0.into();
    match ending {
        Ending::Done { result } => row["result"] = result.as_deref().into(),
        Ending::Retry { after, error } => {
            row["delay"] = wait(*after).into();
            row["error"] = storable(error).into();
        }
        Ending::Dead { reason } => row["error"] = storable(reason).into(),
        Ending::Snooze { after } => {
            row["delay"] = wait(*after).into();
            row["refund"] = 1.into();
        }
        Ending::HandBack => row["refund"] = 1.into(),
    }
    row
}

/// No job is put off for ever.
fn wait(after: Duration) -> i64 {
    micros(after.min(EnqueueOptions::MAX_DELAY))
}

const MAX_ERROR_CHARS: usize = 2_000;

/// PostgreSQL stores no NUL, and nobody reads a megabyte of error.
fn storable(text: &str) -> String {
    let chars = text.chars().take(MAX_ERROR_CHARS);
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
