//! Rows that nobody needs go, and jobs that waited for too long are dead.

mod statement;

use maxscale_shard::{Database, ShardError};

use super::dead::{prune_dead, set_apart};

use statement::{EXPIRE, FORGET, PRUNE, PUT_OFF};

/// Ends what waited for too long, up to `most` jobs; tells how many.
pub(crate) async fn expire(node: &Database, most: u32) -> Result<u64, ShardError> {
    node.execute(EXPIRE.statement().bind(most)).await
}

/// Puts up to `most` dead jobs to the dead letters, removes as many jobs and letters
/// that were kept for long enough, and as many keys
/// that hold nobody back.
pub(crate) async fn prune(node: &Database, most: u32) -> Result<(), ShardError> {
    set_apart(node, most).await?;
    prune_dead(node, most).await?;
    node.execute(PRUNE.statement().bind(most)).await?;
    node.execute(PUT_OFF.statement().bind(most)).await?;
    node.execute(FORGET.statement().bind(most)).await.map(drop)
}
