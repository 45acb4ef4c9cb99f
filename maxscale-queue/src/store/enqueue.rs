//! Jobs come into being.

mod statement;

use std::collections::BTreeSet;
use std::time::Duration;

use maxscale_core::clock::Timestamp;
use maxscale_core::fact::{TraceContext, VirtualShard};
use maxscale_core::id::Id;
use maxscale_shard::{Database, Shard, ShardError, Statement, Tx};
use serde_json::{Value, json};

use super::{listed_job, micros};
use crate::error::QueueError;
use crate::job::JobId;
use crate::options::Enqueued;
use crate::seal::{Place, Seal, StoredArgs};
use crate::unique::{Holder, Unique};

use statement::{HOLD, HOLDER, INSERT, REPLACE, TAKE_OVER};

/// A job that does not exist yet.
#[derive(Debug)]
pub(crate) struct NewJob {
    pub(crate) shard: VirtualShard,
    pub(crate) id: JobId,
    pub(crate) args: StoredArgs,
    /// The arguments unsealed, if the job may take the place of another.
    pub(crate) plain: Option<String>,
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
    pub(crate) retain_dead: Duration,
    pub(crate) trace: Option<TraceContext>,
    pub(crate) run_at: Option<Timestamp>,
    pub(crate) delay: Duration,
    pub(crate) expires: Option<Duration>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) priority: i16,
    pub(crate) tenant: Option<String>,
    pub(crate) tags: BTreeSet<String>,
    pub(crate) unique: Option<Unique>,
    pub(crate) seal: Option<Seal>,
}

// === impl Common ===

impl Common {
    /// Arguments as they are stored for a job.
    pub(crate) fn stored(&self, job: JobId, plain: &str) -> Result<StoredArgs, QueueError> {
        let (queue, kind) = (self.queue, self.kind);
        match &self.seal {
            Some(seal) => seal.seal(plain, Place { queue, kind, job }),
            None => Ok(StoredArgs {
                text: plain.to_owned(),
                sealed_by: None,
            }),
        }
    }
}

/// Stores one job, unless it is unique and there is one.
pub(crate) async fn enqueue(
    tx: &mut Tx,
    common: &Common,
    job: &NewJob,
) -> Result<Enqueued, QueueError> {
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
            row["args"] = job.args.text.as_str().into();
            row["sealed"] = job.args.sealed_by.as_deref().into();
            row["slot"] = job.slot.into();
            row
        })
        .collect();
    // None in the usual case, so that the index of tags has nothing of it.
    let tags = (!common.tags.is_empty()).then(|| json!(common.tags).to_string());
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
        .bind(micros(common.retain_dead))
        .bind(tags)
        .bind(common.timeout.map(micros))
}

/// Holds the key for `job`; or tells which job has it, and gives that what is new.
async fn hold(
    tx: &mut Tx,
    common: &Common,
    job: &NewJob,
    unique: &Unique,
    key: &[u8],
) -> Result<Option<Enqueued>, QueueError> {
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
    if let Some(plain) = &job.plain {
        let args = common.stored(first, plain)?;
        let replacement = replacement(common, job, first, args);
        if tx.execute(replacement).await? == 1 {
            return Ok(Some(Enqueued::Replaced(first)));
        }
    }
    Ok(Some(Enqueued::Duplicate(first)))
}

fn replacement(common: &Common, job: &NewJob, first: JobId, args: StoredArgs) -> Statement {
    (REPLACE.statement())
        .bind(job.shard)
        .bind(first)
        .bind(args.text)
        .bind(common.version)
        .bind(i64::from(common.priority))
        .bind(common.run_at.map(Timestamp::as_micros))
        .bind(micros(common.delay))
        .bind(common.expires.map(micros))
        .bind(args.sealed_by)
}
