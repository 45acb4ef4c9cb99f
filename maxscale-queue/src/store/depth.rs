//! How much waits on a node.

use std::time::Duration;

use maxscale_shard::{Database, ShardError, Sql};

use super::{count, waited};

/// What waits in a queue on a node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Depth {
    /// At most ten thousand: a backlog is not counted to its end.
    pub(crate) jobs: u32,
    pub(crate) oldest: Duration,
}

/// Node-wide, by `ms_job_place`: how many jobs of a queue have a place.
const PLACES: Sql = Sql::both(
    "SELECT count(*) AS jobs FROM (SELECT 1 AS one FROM ms_job
         WHERE queue = $1 AND state = 'ready' AND rank IS NOT NULL AND crashes = 0
         LIMIT 10000) AS first",
);

/// How much of `queue` is due.
pub(crate) async fn depth(node: &Database, queue: &str) -> Result<Depth, ShardError> {
    let row = node.fetch_optional(PLACES.statement().bind(queue)).await?;
    Ok(Depth {
        jobs: row.map_or(Ok(0), |row| count(&row, "jobs"))?,
        oldest: waited(node, queue).await?.unwrap_or_default(),
    })
}
