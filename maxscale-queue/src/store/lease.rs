//! Who is alive on a node, and what becomes of the jobs of those who are not.

mod statement;

use std::time::Duration;

use maxscale_shard::{Conn, Database, ShardError};
use uuid::Uuid;

use super::{job_id, micros};
use crate::job::{JobId, JobState};

use statement::{BURY, ENTER, LEAVE, RENEW, RESCUE};

/// A job whose worker is gone.
#[derive(Debug)]
pub(crate) struct Rescued {
    pub(crate) job: JobId,
    pub(crate) kind: String,
    /// It has killed so many workers that it will not run again.
    pub(crate) poison: bool,
}

/// Enters a life of a worker, which nobody had before.
pub(crate) async fn enter(
    node: &mut Conn,
    worker: Uuid,
    lease: Duration,
) -> Result<(), ShardError> {
    let statement = ENTER.statement().bind(worker).bind(micros(lease));
    node.execute(statement).await.map(drop)
}

/// Prolongs a worker's lease, and so that of all its jobs; false if it has none.
pub(crate) async fn renew(
    node: &mut Conn,
    worker: Uuid,
    lease: Duration,
) -> Result<bool, ShardError> {
    let statement = RENEW.statement().bind(worker).bind(micros(lease));
    Ok(node.execute(statement).await? == 1)
}

/// Ends a worker's lease: what it still has is free at once.
pub(crate) async fn leave(node: &Database, worker: Uuid) -> Result<(), ShardError> {
    node.execute(LEAVE.statement().bind(worker)).await.map(drop)
}

/// Ends the lives of workers whose lease ran out.
pub(crate) async fn bury(node: &Database) -> Result<u64, ShardError> {
    node.execute(BURY.statement()).await
}

/// Frees jobs whose worker was buried, up to `most` of them.
pub(crate) async fn rescue(node: &Database, most: u32) -> Result<Vec<Rescued>, ShardError> {
    let rows = node
        .execute_returning(RESCUE.statement().bind(most))
        .await?;
    let rescued = rows.iter().map(|row| {
        let state: String = row.get("state")?;
        Ok(Rescued {
            job: job_id(row)?,
            kind: row.get("kind")?,
            poison: state == JobState::Dead.as_str(),
        })
    });
    rescued.collect()
}
