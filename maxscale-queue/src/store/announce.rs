//! Announcements to workers of other processes.

use maxscale_shard::{Database, Engine, ShardError, Sql};

/// Where they are made. The name says nothing of queues: a worker looks at all of its own.
pub(crate) const CHANNEL: &str = "ms_job";

const ANNOUNCE: Sql = Sql::both("SELECT pg_notify('ms_job', '')");

/// Whether there is anybody to hear: a file announces nothing.
pub(crate) fn announces(node: &Database) -> bool {
    node.engine() == Engine::Postgres
}

/// Announces that the node has something.
pub(crate) async fn announce(node: &Database) -> Result<(), ShardError> {
    node.execute_returning(ANNOUNCE.statement()).await.map(drop)
}
