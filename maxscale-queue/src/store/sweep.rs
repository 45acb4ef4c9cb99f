//! Rows that nobody needs go, and jobs that waited for too long are dead.

mod statement;

use maxscale_shard::{Database, ShardError};

use statement::{EXPIRE, FORGET, PRUNE, PUT_OFF};

/// Ends what waited for too long, up to `most` jobs; tells how many.
pub(crate) async fn expire(node: &Database, most: u32) -> Result<u64, ShardError> {
    node.execute(EXPIRE.statement().bind(most)).await
}

/// Removes up to `most` jobs that were kept for long enough, and as many keys that
/// hold nobody back.
pub(crate) async fn prune(node: &Database, most: u32) -> Result<(), ShardError> {
    node.execute(PRUNE.statement().bind(most)).await?;
    node.execute(PUT_OFF.statement().bind(most)).await?;
    node.execute(FORGET.statement().bind(most)).await.map(drop)
}
