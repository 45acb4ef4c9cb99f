//! Jobs come into being.

mod statement;

use std::time::Duration;

use maxscale_core::clock::Timestamp;
use maxscale_core::fact::{TraceContext, VirtualShard};
use maxscale_core::id::Id;
use maxscale_shard::{Database, Shard, ShardError, Statement, Tx};
use serde_json::Value;

use super::{listed_job, micros};
use crate::job::JobId;
use crate::options::Enqueued;
use crate::unique::{Holder, Unique};

use statement::{HOLD, HOLDER, INSERT, REPLACE, TAKE_OVER};

/// A job that does not exist yet.
#[derive(Debug)]
pub(crate) struct NewJob {
    pub(crate) shard: VirtualShard,
    pub(crate) id: JobId,
    pub(crate) args: String,
    pub(crate) slot: u32,
    /// The hash of what no other job may have, if it is unique.
    pub(crate) key: Option<Vec<u8>>,
}

/// What jobs that are enqueued together have in common.
#[derive(Debug)]
pub(crate) struct Common {
    pub(crate) kind: &'static str,
    pub(crate) version: u32,
    pub(crate) queue: &'static str,
    pub(crate) max_attempts: u32,
    pub(crate) retain: Duration,
    pub(crate) trace: Option<TraceContext>,
    pub(crate) run_at: Option<Timestamp>,
    pub(crate) delay: Duration,
    pub(crate) expires: Option<Duration>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) priority: i16,
    pub(crate) tenant: Option<String>,
    pub(crate) unique: Option<Unique>,
}

/// Stores one job, unless it is unique and there is one.
pub(crate) async fn enqueue(
    tx: &mut Tx,
    common: &Common,
    job: &NewJob,
) -> Result<Enqueued, ShardError> {
    if let (Some(unique), Some(key)) = (&common.unique, &job.key)
        && let Some(there) = hold(tx, common, job, unique, key).await?
    {
        return Ok(there);
    }
    tx.execute(insertion(common, std::slice::from_ref(job)))
        .await?;
    Ok(Enqueued::Inserted(job.id))
}

/// Stores one job that is not unique, without a transaction around it.
pub(crate) async fn insert(shard: &Shard, common: &Common, job: &NewJob) -> Result<(), ShardError> {
    let statement = insertion(common, std::slice::from_ref(job));
    shard.execute(statement).await.map(drop)
}

/// Stores jobs of one node that are not unique.
pub(crate) async fn insert_many(
    node: &Database,
    common: &Common,
    jobs: &[NewJob],
) -> Result<(), ShardError> {
    node.execute(insertion(common, jobs)).await.map(drop)
}

fn insertion(common: &Common, jobs: &[NewJob]) -> Statement {
    let listed: Value = jobs
        .iter()
        .map(|job| {
            let mut row = listed_job(job.shard, job.id);
            row["args"] = job.args.as_str().into();
            row["slot"] = job.slot.into();
            row
        })
        .collect();
    (INSERT.statement())
        .bind(listed.to_string())
        .bind(common.kind)
        .bind(common.version)
        .bind(common.queue)
        .bind(common.max_attempts)
        .bind(common.trace.as_ref().map(TraceContext::to_text))
        .bind(common.run_at.map(Timestamp::as_micros))
        .bind(micros(common.delay))
        .bind(i64::from(common.priority))
        .bind(common.tenant.clone())
        .bind(common.expires.map(micros))
        .bind(micros(common.retain))
        .bind(common.timeout.map(micros))
}

/// Holds the key for `job`; or tells which job has it, and gives that what is new.
async fn hold(
    tx: &mut Tx,
    common: &Common,
    job: &NewJob,
    unique: &Unique,
    key: &[u8],
) -> Result<Option<Enqueued>, ShardError> {
    let held = |statement: Statement| statement.bind(job.shard).bind(key);
    let within = micros(unique.within);
    let hold = held(HOLD.statement()).bind(job.id).bind(within);
    let first = tx.fetch_one(hold).await?;
    let first: JobId = first.get::<Id>("job_id")?.into();
    if first == job.id {
        return Ok(None);
    }
    let holder = tx.fetch_one(held(HOLDER.statement())).await?;
    let holder = Holder {
        alive: holder.get("alive")?,
        untouched: holder.get("untouched")?,
        fresh: holder.get("fresh")?,
    };
    if !unique.holds(holder) {
        let take_over = held(TAKE_OVER.statement()).bind(job.id).bind(within);
        tx.execute(take_over).await?;
        return Ok(None);
    }
    if unique.replace && tx.execute(replacement(common, job, first)).await? == 1 {
        return Ok(Some(Enqueued::Replaced(first)));
    }
    Ok(Some(Enqueued::Duplicate(first)))
}

fn replacement(common: &Common, job: &NewJob, first: JobId) -> Statement {
    (REPLACE.statement())
        .bind(job.shard)
        .bind(first)
        .bind(job.args.as_str())
        .bind(common.version)
        .bind(i64::from(common.priority))
        .bind(common.run_at.map(Timestamp::as_micros))
        .bind(micros(common.delay))
        .bind(common.expires.map(micros))
}
