//! Jobs that are dead lie apart from the others: looked at, brought back, removed.

mod statement;

use maxscale_core::clock::Timestamp;
use maxscale_core::fact::VirtualShard;
use maxscale_core::id::Id;
use maxscale_shard::{Database, Row, Shard, ShardError, Statement};
use serde_json::Value;
use uuid::Uuid;

use super::{count, history, job_id, listed_job, unreadable};
use crate::dead::{DeadFilter, DeadLetter, DeadReason};
use crate::job::JobId;

use statement::{
    BRING_BACK, FIND, FORGIVE, LEFT, LIST, NOW, PICK, PRUNE, PURGE, SET_APART, TAKE_OUT,
};

/// A dead letter's name: its virtual shard and its id.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Name {
    shard: VirtualShard,
    job: JobId,
}

/// What time it is on the node.
pub(crate) async fn now(node: &Database) -> Result<Timestamp, ShardError> {
    let rows = node.fetch_all(NOW.statement()).await?;
    let row = rows.first().ok_or_else(|| unreadable("now", "no row"))?;
    row.get("now").map(Timestamp::from_micros)
}

/// Puts what has died to the dead letters, up to `most`; tells how many.
pub(crate) async fn set_apart(node: &Database, most: u32) -> Result<u64, ShardError> {
    let left = names(&node.fetch_all(LEFT.statement().bind(most)).await?)?;
    if left.is_empty() {
        return Ok(0);
    }
    let listed: Value = (left.iter().map(|name| listed_job(name.shard, name.job))).collect();
    let listed = listed.to_string();
    let mut tx = node.begin().await?;
    let moved = tx
        .execute(SET_APART.statement().bind(listed.as_str()))
        .await?;
    tx.execute(TAKE_OUT.statement().bind(listed)).await?;
    tx.commit().await?;
    Ok(moved)
}

/// The first `most` that `filter` names and that died no later than `until`.
pub(crate) async fn pick(
    node: &Database,
    filter: &DeadFilter,
    until: Timestamp,
    most: u32,
) -> Result<Vec<Name>, ShardError> {
    let statement = wanted(PICK.statement(), filter, Some(until)).bind(most);
    names(&node.fetch_all(statement).await?)
}

/// The next `most` that `filter` names.
pub(crate) async fn list(
    node: &Database,
    filter: &DeadFilter,
    after: Option<(Timestamp, JobId)>,
    most: u32,
) -> Result<Vec<DeadLetter>, ShardError> {
    let (at, id) = match after {
        Some((at, id)) => (at.as_micros(), id.as_id().as_uuid()),
        None => (i64::MIN, Uuid::nil()),
    };
    let statement = wanted(LIST.statement(), filter, None).bind(most);
    let rows = node.fetch_all(statement.bind(at).bind(id)).await?;
    rows.iter().map(letter).collect()
}

pub(crate) async fn letter_of(shard: &Shard, id: JobId) -> Result<Option<DeadLetter>, ShardError> {
    let statement = FIND.statement().bind(shard.id()).bind(id);
    let row = shard.fetch_optional(statement).await?;
    row.as_ref().map(letter).transpose()
}

/// Has what is listed wait again, each for its microseconds; tells how many do.
pub(crate) async fn bring_back(node: &Database, names: &[(Name, i64)]) -> Result<u64, ShardError> {
    let listed: Value = (names.iter())
        .map(|(name, after)| {
            let mut row = listed_job(name.shard, name.job);
            row["after"] = (*after).into();
            row
        })
        .collect();
    let listed = listed.to_string();
    let mut tx = node.begin().await?;
    let moved = tx
        .execute(BRING_BACK.statement().bind(listed.as_str()))
        .await?;
    tx.execute(FORGIVE.statement().bind(listed)).await?;
    tx.commit().await?;
    Ok(moved)
}

pub(crate) async fn purge(node: &Database, names: &[Name]) -> Result<u64, ShardError> {
    let listed: Value = (names.iter().map(|name| listed_job(name.shard, name.job))).collect();
    node.execute(PURGE.statement().bind(listed.to_string()))
        .await
}

/// Removes up to `most` that were kept for long enough.
pub(crate) async fn prune_dead(node: &Database, most: u32) -> Result<(), ShardError> {
    node.execute(PRUNE.statement().bind(most)).await.map(drop)
}

fn wanted(statement: Statement, filter: &DeadFilter, until: Option<Timestamp>) -> Statement {
    let until = [filter.until, until].into_iter().flatten().min();
    statement
        .bind(filter.since.map_or(i64::MIN, Timestamp::as_micros))
        .bind(until.map_or(i64::MAX, Timestamp::as_micros))
        .bind(filter.queue.clone())
        .bind(filter.kind.clone())
        .bind(filter.reason.map(DeadReason::as_str))
        .bind(filter.tag.clone())
}

fn names(rows: &[Row]) -> Result<Vec<Name>, ShardError> {
    let name = |row: &Row| {
        let shard = VirtualShard::new(count(row, "shard_id")?);
        let job = job_id(row)?;
        Ok(Name { shard, job })
    };
    rows.iter().map(name).collect()
}

fn letter(row: &Row) -> Result<DeadLetter, ShardError> {
    let reason: String = row.get("reason")?;
    let past: Option<String> = row.get("history")?;
    Ok(DeadLetter {
        id: row.get::<Id>("job_id")?.into(),
        kind: row.get("kind")?,
        version: count(row, "version")?,
        queue: row.get("queue")?,
        args: row.get("args")?,
        sealed_by: row.get("sealed_by")?,
        tenant: row.get("tenant")?,
        attempt: count(row, "attempt")?,
        crashes: count(row, "crashes")?,
        reason: reason_of(&reason)?,
        tags: tags(row.get("tags")?)?,
        last_error: row.get("last_error")?,
        history: history::read(past.as_deref().unwrap_or_default()),
        created_at: Timestamp::from_micros(row.get("created_at")?),
        dead_at: Timestamp::from_micros(row.get("dead_at")?),
    })
}

pub(super) fn reason_of(text: &str) -> Result<DeadReason, ShardError> {
    DeadReason::parse(text).ok_or_else(|| unreadable("reason", "no such reason"))
}

fn tags(text: Option<String>) -> Result<Vec<String>, ShardError> {
    let tags = text.map(|text| serde_json::from_str(&text)).transpose();
    let tags = tags.map_err(|source| unreadable("tags", source))?;
    Ok(tags.unwrap_or_default())
}
