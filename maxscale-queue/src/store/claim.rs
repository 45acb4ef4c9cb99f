//! Jobs get their place when their time has come, are claimed from it, and go back
//! to it when nobody knows of the claim.

mod by_shard;
mod statement;

use std::sync::Arc;
use std::time::Duration;

use maxscale_core::Chain;
use maxscale_core::fact::{TraceContext, VirtualShard};
use maxscale_shard::{Database, Product, Row, ShardError, Statement, Value};
use uuid::Uuid;

use crate::seal::StoredArgs;

use super::{Facts, Lease, count, job_id, listed};

use statement::{CLAIM, GIVE_BACK, PROMOTE};

/// A job that a claim gave.
#[derive(Debug)]
pub(crate) struct Claimed {
    pub(crate) kind: String,
    pub(crate) args: StoredArgs,
    pub(crate) facts: Facts,
    pub(crate) slot: u32,
    /// Since it was due.
    pub(crate) waited: Duration,
}

/// What a claimer is after.
#[derive(Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) queue: &'a str,
    /// JSON object of what it has handlers for: the newest version of each kind.
    pub(crate) kinds: &'a str,
    pub(crate) worker: Uuid,
    pub(crate) most: usize,
    /// Whether one beyond that may have crashed a worker before.
    pub(crate) suspect: bool,
    /// The slot that was served last.
    pub(crate) served: u32,
    /// The virtual shards that stand still.
    pub(crate) frozen: Arc<[i32]>,
}

/// Gives what is due its place in its queue, up to `most` jobs; tells how many.
pub(crate) async fn promote(node: &Database, most: u32) -> Result<u64, ShardError> {
    node.execute(PROMOTE.statement().bind(most)).await
}

/// How many statements a claim is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Form {
    /// One for all virtual shards of the node.
    NodeWide,
    /// One for each: some engines lock no rows across shards.
    ByShard,
}

/// Takes what is due for `wanted.worker`: nothing if its lease on the node is over.
pub(crate) async fn claim(
    node: &Database,
    wanted: &Wanted<'_>,
) -> Result<Vec<Claimed>, ShardError> {
    let form = match node.capabilities().await?.product {
        Product::Citus => Form::ByShard,
        _ => Form::NodeWide,
    };
    claim_by(form, node, wanted).await
}

pub(crate) async fn claim_by(
    form: Form,
    node: &Database,
    wanted: &Wanted<'_>,
) -> Result<Vec<Claimed>, ShardError> {
    match form {
        Form::NodeWide => {
            let statement = asked(CLAIM.statement(), wanted, wanted.most, wanted.suspect)
                .bind(Value::Ints(wanted.frozen.clone()))
                .bind(wanted.served);
            take(node, statement, wanted.worker).await
        }
        Form::ByShard => by_shard::claim(node, wanted).await,
    }
}

fn asked(statement: Statement, wanted: &Wanted<'_>, most: usize, suspect: bool) -> Statement {
    statement
        .bind(wanted.queue)
        .bind(wanted.kinds)
        // What is read ahead is a multiple of it.
        .bind(i64::try_from(most).map_or(i64::MAX / 8, |most| most.min(i64::MAX / 8)))
        .bind(wanted.worker)
        .bind(i64::from(suspect))
}

async fn take(
    node: &Database,
    statement: Statement,
    worker: Uuid,
) -> Result<Vec<Claimed>, ShardError> {
    let rows = node.execute_returning(statement).await?;
    let readable = rows.iter().filter_map(|row| {
        claimed(row, worker)
            // Given back as a stray; the jobs claimed beside it shall not suffer.
            .inspect_err(|error| tracing::error!(error = %Chain(error), "unreadable job"))
            .ok()
    });
    Ok(readable.collect())
}

/// Gives back what runs under `worker` by the rows, unless it is one of `held`.
pub(crate) async fn give_back(
    node: &Database,
    worker: Uuid,
    held: &[Lease],
) -> Result<u64, ShardError> {
    let listed: serde_json::Value = held.iter().map(listed).collect();
    let statement = (GIVE_BACK.statement())
        .bind(worker)
        .bind(listed.to_string());
    node.execute(statement).await
}

fn claimed(row: &Row, worker: Uuid) -> Result<Claimed, ShardError> {
    let trace: Option<String> = row.get("trace_context")?;
    let timeout: Option<i64> = row.get("timeout")?;
    let waited: i64 = row.get("waited")?;
    let lease = Lease {
        shard: VirtualShard::new(count(row, "shard_id")?),
        job: job_id(row)?,
        worker,
        token: row.get("lease_token")?,
    };
    Ok(Claimed {
        kind: row.get("kind")?,
        args: StoredArgs {
            text: row.get("args")?,
            sealed_by: row.get("sealed_by")?,
        },
        slot: count(row, "slot")?,
        waited: Duration::from_micros(waited.max(0).unsigned_abs()),
        facts: Facts {
            lease,
            version: count(row, "version")?,
            attempt: count(row, "attempt")?,
            max_attempts: count(row, "max_attempts")?,
            crashes: count(row, "crashes")?,
            timeout: timeout.map(|micros| Duration::from_micros(micros.unsigned_abs())),
            checkpoint: row.get("checkpoint")?,
            trace: trace.as_deref().and_then(TraceContext::from_text),
        },
    })
}
