//! What a run tells of itself before its end: steps that are done, and how far it is.
//!
//! Each is fenced by worker and token, as an end is.

mod statement;

use maxscale_shard::{Database, ShardError, Statement, Tx};
use serde_json::{Map, Value};

use super::{Lease, unreadable};

use statement::{KEEP, LOCK, PROGRESS};

/// The results of steps, by name.
pub(crate) type Steps = Map<String, Value>;

/// The steps that are done; none if the lease is lost. Holds the job's row until the
/// end of `tx`, so that none of them is done twice at once, and the lease stays.
pub(crate) async fn steps(tx: &mut Tx, lease: &Lease) -> Result<Option<Steps>, ShardError> {
    let Some(row) = tx.fetch_optional(fenced(LOCK.statement(), lease)).await? else {
        return Ok(None);
    };
    let steps: Option<String> = row.get("steps")?;
    let steps = steps.as_deref().unwrap_or("{}");
    serde_json::from_str(steps)
        .map(Some)
        .map_err(|source| unreadable("steps", source))
}

/// Keeps the results of steps, whose row `tx` holds.
pub(crate) async fn keep(tx: &mut Tx, lease: &Lease, steps: String) -> Result<(), ShardError> {
    let keep = fenced(KEEP.statement(), lease).bind(steps);
    tx.execute(keep).await.map(drop)
}

/// Keeps how far a run is; false if its lease is lost.
pub(crate) async fn progress(
    node: &Database,
    lease: &Lease,
    progress: String,
) -> Result<bool, ShardError> {
    let progress = fenced(PROGRESS.statement(), lease).bind(progress);
    Ok(node.execute(progress).await? == 1)
}

fn fenced(statement: Statement, lease: &Lease) -> Statement {
    (statement.bind(lease.shard).bind(lease.job))
        .bind(lease.worker)
        .bind(lease.token)
}
