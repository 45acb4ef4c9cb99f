use std::collections::BTreeMap;

use maxscale_core::id::KeyspaceTag;
use uuid::Uuid;

use super::{FleetError, names};
use crate::database::Database;
use crate::error::ShardError;
use crate::keyspace::{Keyspace, KeyspaceError};
use crate::sql::{Row, Tx, sql};
use crate::topology::{Epoch, NodeId, Topology};
use crate::vindex::Vindex;

/// Names and map, as the catalog keeps them from the first start on.
pub(super) struct Membership;

impl Membership {
    /// Stores `wanted` on the first start; afterwards compares, and gives what is stored.
    pub(super) async fn remember(
        catalog: &Database,
        keyspace: &Keyspace,
        wanted: &Topology,
    ) -> Result<(Uuid, Topology), FleetError> {
        let mut tx = catalog.begin().await?;
        let created = sql(
            "INSERT INTO ms_keyspace (only_row, cluster, shards, tag, vindex)
             VALUES (1, $1, $2, $3, $4) ON CONFLICT (only_row) DO NOTHING",
        );
        let created = created.bind(Uuid::new_v4()).bind(keyspace.shards());
        let created =
            (created.bind(u32::from(keyspace.tag().get()))).bind(keyspace.vindex().to_string());
        // The inserted row is locked until the commit: of several first starters one stores.
        if tx.execute(created).await? == 1 {
            store(&mut tx, wanted).await?;
        }
        let (cluster, stored) = load(&mut tx, keyspace).await?;
        tx.commit().await?;
        compare(&stored, wanted)?;
        Ok((cluster, stored))
    }
}

async fn store(tx: &mut Tx, map: &Topology) -> Result<(), ShardError> {
    for (position, node) in (0_i64..).zip(map.nodes()) {
        let row = sql("INSERT INTO ms_fleet_node (position, name) VALUES ($1, $2)");
        tx.execute(row.bind(position).bind(node.as_str())).await?;
    }
    let slots: Vec<u8> = map.places().flat_map(u16::to_be_bytes).collect();
    let epoch = i64::try_from(map.epoch().get()).unwrap_or(i64::MAX);
    let row = sql("INSERT INTO ms_map (epoch, slots) VALUES ($1, $2)");
    tx.execute(row.bind(epoch).bind(slots)).await?;
    Ok(())
}

async fn load(tx: &mut Tx, wanted: &Keyspace) -> Result<(Uuid, Topology), FleetError> {
    let keyspace = sql("SELECT cluster, shards, tag, vindex FROM ms_keyspace WHERE only_row = 1");
    let keyspace = tx.fetch_one(keyspace).await?;
    wanted.agree(&stored(&keyspace)?)?;
    let mut nodes = Vec::new();
    for row in tx
        .fetch_all(sql("SELECT name FROM ms_fleet_node ORDER BY position"))
        .await?
    {
        nodes.push(NodeId::new(&row.get::<String>("name")?)?);
    }
    let map = sql("SELECT epoch, slots FROM ms_map ORDER BY epoch DESC LIMIT 1");
    let map = tx.fetch_one(map).await?;
    let epoch = u64::try_from(map.get::<i64>("epoch")?).unwrap_or_default();
    let slots = map.get::<Vec<u8>>("slots")?;
    let slots = slots
        .chunks_exact(2)
        .map(|s| u16::from_be_bytes([s[0], s[1]]))
        .collect();
    let stored = Topology::stored(Epoch::new(epoch), nodes, slots, wanted.shards())?;
    Ok((keyspace.get("cluster")?, stored))
}

/// The keyspace of a row with `shards`, `tag` and `vindex`.
pub(super) fn stored(row: &Row) -> Result<Keyspace, FleetError> {
    let number = |name| row.get::<i64>(name);
    // What does not fit is told as what no keyspace has.
    let tag = u8::try_from(number("tag")?).ok().and_then(KeyspaceTag::new);
    let tag = tag.ok_or(KeyspaceError::Tag(number("tag")?))?;
    let shards = u32::try_from(number("shards")?).unwrap_or(u32::MAX);
    let vindex: Vindex = row
        .get::<String>("vindex")?
        .parse()
        .map_err(KeyspaceError::from)?;
    Ok(Keyspace::new(tag, shards, vindex)?)
}

/// Refuses another set of names, saying what would have to move.
fn compare(stored: &Topology, wanted: &Topology) -> Result<(), FleetError> {
    let (mut had, mut asked) = (stored.nodes().to_vec(), wanted.nodes().to_vec());
    had.sort();
    asked.sort();
    if had == asked {
        return Ok(());
    }
    let moves = stored.plan(wanted.nodes()).map_err(FleetError::from)?;
    let mut legs: BTreeMap<(&NodeId, &NodeId), usize> = BTreeMap::new();
    for step in &moves {
        *legs.entry((&step.from, &step.to)).or_default() += 1;
    }
    let legs: Vec<String> = legs
        .into_iter()
        .map(|((from, to), count)| format!("{count} virtual shards from {from} to {to}"))
        .collect();
    Err(FleetError::Differs(format!(
        "stored are {}, configured are {}; {} would have to move, and nothing moves them yet",
        names(stored.nodes()),
        names(wanted.nodes()),
        legs.join(" and ")
    )))
}

/// Puts if absent; gives what is stored.
pub(super) async fn remember(
    catalog: &Database,
    name: &str,
    value: &[u8],
) -> Result<Vec<u8>, ShardError> {
    let mut conn = catalog.writer().await?;
    let put =
        sql("INSERT INTO ms_memory (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING");
    conn.execute(put.bind(name).bind(value)).await?;
    let row = conn
        .fetch_one(sql("SELECT value FROM ms_memory WHERE name = $1").bind(name))
        .await?;
    row.get("value")
}

pub(super) async fn recall(catalog: &Database, name: &str) -> Result<Option<Vec<u8>>, ShardError> {
    let find = sql("SELECT value FROM ms_memory WHERE name = $1").bind(name);
    match catalog.fetch_optional(find).await? {
        Some(row) => row.get("value").map(Some),
        None => Ok(None),
    }
}
