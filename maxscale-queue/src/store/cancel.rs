//! Jobs are asked to stop.

mod statement;

use maxscale_core::fact::VirtualShard;
use maxscale_shard::{Conn, Database, Shard, ShardError};
use uuid::Uuid;

use super::{Lease, count, job_id};
use crate::job::JobId;

use statement::{ASK, ASKED, CANCEL, CANCEL_TAGGED, STOP};

/// Ends a job that waits, and asks one that runs to stop; false if it did neither.
///
/// From the first statement on it is claimed no more, whatever becomes of the second.
pub(crate) async fn cancel(shard: &Shard, id: JobId) -> Result<bool, ShardError> {
    let ask = ASK.statement().bind(shard.id()).bind(id);
    if shard.execute(ask).await? == 0 {
        return Ok(false);
    }
    let cancel = CANCEL.statement().bind(shard.id()).bind(id);
    shard.execute(cancel).await?;
    Ok(true)
}

/// Those of a worker's jobs that shall stop.
pub(crate) async fn asked(node: &mut Conn, worker: Uuid) -> Result<Vec<Lease>, ShardError> {
    let rows = node.fetch_all(ASKED.statement().bind(worker)).await?;
    let asked = rows.iter().map(|row| {
        Ok(Lease {
            shard: VirtualShard::new(count(row, "shard_id")?),
            job: job_id(row)?,
            worker,
            token: row.get("lease_token")?,
        })
    });
    asked.collect()
}

/// Ends jobs that were asked to stop and came back to their queue, up to `most`.
pub(crate) async fn stop(node: &Database, most: u32) -> Result<u64, ShardError> {
    node.execute(STOP.statement().bind(most)).await
}

/// Ends jobs that wait and have a tag, up to `most`; tells how many.
pub(crate) async fn cancel_tagged(
    node: &Database,
    tag: &str,
    most: u32,
) -> Result<u64, ShardError> {
    let statement = CANCEL_TAGGED.statement().bind(tag).bind(most);
    node.execute(statement).await
}
