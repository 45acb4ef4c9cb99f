//! Which queues stand still on a node: one row for each, which claims look at.

use maxscale_shard::{Database, ShardError, Sql};

macro_rules! pause {
    ($now:expr) => {
        concat!(
            "INSERT INTO ms_queue_pause (queue, paused_at) VALUES ($1, ",
            $now,
            ") ON CONFLICT (queue) DO NOTHING"
        )
    };
}

const PAUSE: Sql = Sql::each(pause!(pg_now!()), pause!(sqlite_now!()));

const RESUME: Sql = Sql::both("DELETE FROM ms_queue_pause WHERE queue = $1");

const PAUSED: Sql = Sql::both("SELECT queue FROM ms_queue_pause");

pub(crate) async fn pause(node: &Database, queue: &str) -> Result<(), ShardError> {
    node.execute(PAUSE.statement().bind(queue)).await.map(drop)
}

pub(crate) async fn resume(node: &Database, queue: &str) -> Result<(), ShardError> {
    node.execute(RESUME.statement().bind(queue)).await.map(drop)
}

pub(crate) async fn paused(node: &Database) -> Result<Vec<String>, ShardError> {
    let rows = node.fetch_all(PAUSED.statement()).await?;
    rows.iter().map(|row| row.get("queue")).collect()
}
