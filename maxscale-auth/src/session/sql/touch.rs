//! Many touches, in one statement for each node.

use std::collections::HashMap;

use maxscale_core::id::Id;
use maxscale_shard::{NodeId, Router, Shard, ShardError, Statement};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::session::store::Touch;

/// As many as one statement carries, so that none holds its rows for long.
const AT_ONCE: usize = 500;

/// Has `statement` write them, as an array of `shard`, `owner`, `id` and `seen`, on all
/// nodes at once: one that does not answer keeps the others from nothing.
pub(crate) async fn touch(
    router: &Router,
    touches: &[Touch],
    statement: fn(String) -> Statement,
) -> Result<(), ShardError> {
    let mut failed = None;
    let mut nodes: HashMap<NodeId, (Shard, Vec<Value>)> = HashMap::new();
    for touch in latest(touches) {
        let shard = match router.shard(touch.user) {
            Ok(shard) => shard,
            Err(error) => {
                failed = Some(error);
                continue;
            }
        };
        let row = json!({
            "shard": shard.id().as_i64(),
            "owner": touch.user.as_uuid().simple().to_string(),
            "id": touch.session.as_uuid().simple().to_string(),
            "seen": touch.at.as_micros(),
        });
        let id = shard.node().id().clone();
        let (_, rows) = nodes.entry(id).or_insert_with(|| (shard, Vec::new()));
        rows.push(row);
    }
    let mut writes = JoinSet::new();
    for (shard, rows) in nodes.into_values() {
        let parts = rows.chunks(AT_ONCE).map(|rows| json!(rows).to_string());
        let statements: Vec<Statement> = parts.map(statement).collect();
        writes.spawn(async move {
            for statement in statements {
                shard.execute(statement).await?;
            }
            Ok(())
        });
    }
    for written in writes.join_all().await {
        failed = failed.or(written.err());
    }
    failed.map_or(Ok(()), Err)
}

/// The latest touch of each session: a statement changes a row once.
fn latest(touches: &[Touch]) -> impl Iterator<Item = Touch> {
    let mut latest: HashMap<(Id, Id), Touch> = HashMap::new();
    for touch in touches {
        let known = latest.entry((touch.user, touch.session)).or_insert(*touch);
        known.at = known.at.max(touch.at);
    }
    latest.into_values()
}
