use std::collections::BTreeMap;

use maxscale_core::id::KeyspaceTag;
use uuid::Uuid;

use super::{FleetError, names};
use crate::database::Database;
use crate::error::ShardError;
use crate::keyspace::{Keyspace, KeyspaceError};
use crate::sql::{Conn, Row, Sql, sql};
use crate::topology::{Epoch, MapTextError, NodeId, Topology};
use crate::vindex::Vindex;

/// Where a new map is announced.
pub(super) const CHANNEL: &str = "maxscale_map";

/// Stores keyspace and map on the first start; gives what is stored.
pub(super) async fn settle(
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
        let first = sql("INSERT INTO ms_map (epoch, slots, body) VALUES ($1, $2, $3)");
        let first = first.bind(number(wanted.epoch())).bind(Vec::<u8>::new());
        tx.execute(first.bind(wanted.to_string())).await?;
    }
    let settled = whose(&mut tx, keyspace).await?;
    let newest = maps(&mut tx, keyspace, 1).await?;
    tx.commit().await?;
    Ok((settled, the_newest(newest)?))
}

/// Whose catalog it is, and its newest map.
pub(super) async fn newest(
    catalog: &Database,
    keyspace: &Keyspace,
) -> Result<(Uuid, Topology), FleetError> {
    let mut conn = catalog.reader().await?;
    let cluster = whose(&mut conn, keyspace).await?;
    let newest = maps(&mut conn, keyspace, 1).await?;
    Ok((cluster, the_newest(newest)?))
}

/// The newest maps, the newest first.
pub(super) async fn history(
    catalog: &Database,
    keyspace: &Keyspace,
    most: u32,
) -> Result<Vec<Topology>, FleetError> {
    maps(&mut catalog.reader().await?, keyspace, most).await
}

/// Stores `next` if the newest map is of the epoch `before`; else gives the
/// newest one's. Maps that were stored stay.
pub(super) async fn put(
    catalog: &Database,
    before: Epoch,
    next: &Topology,
) -> Result<Result<(), Epoch>, ShardError> {
    let mut tx = catalog.begin().await?;
    let put = sql("INSERT INTO ms_map (epoch, slots, body)
         SELECT $1, $2, $3 WHERE (SELECT max(epoch) FROM ms_map) = $4
         ON CONFLICT (epoch) DO NOTHING");
    let put = put.bind(number(next.epoch())).bind(Vec::<u8>::new());
    let put = put.bind(next.to_string()).bind(number(before));
    if tx.execute(put).await? == 0 {
        let newest = tx.fetch_one(sql("SELECT max(epoch) AS epoch FROM ms_map"));
        return Ok(Err(epoch(&newest.await?)?));
    }
    tx.execute(ANNOUNCE.statement().bind(CHANNEL)).await?;
    tx.commit().await?;
    Ok(Ok(()))
}

/// A file has no channels; who follows it looks often enough.
const ANNOUNCE: Sql = Sql::each("SELECT pg_notify($1, '')", "SELECT $1");

/// The cluster, if the catalog is of this keyspace.
async fn whose(conn: &mut Conn, wanted: &Keyspace) -> Result<Uuid, FleetError> {
    let row = sql("SELECT cluster, shards, tag, vindex FROM ms_keyspace WHERE only_row = 1");
    let row = conn.fetch_one(row).await?;
    wanted.agree(&stored(&row)?)?;
    Ok(row.get("cluster")?)
}

async fn maps(
    conn: &mut Conn,
    keyspace: &Keyspace,
    most: u32,
) -> Result<Vec<Topology>, FleetError> {
    let rows = sql("SELECT epoch, slots, body FROM ms_map ORDER BY epoch DESC LIMIT $1");
    let mut maps = Vec::new();
    for row in conn.fetch_all(rows.bind(most)).await? {
        let map = match row.get::<Option<String>>("body")? {
            Some(body) => body.parse()?,
            None => before_bodies(conn, &row, keyspace).await?,
        };
        map.fits(keyspace)?;
        maps.push(map);
    }
    Ok(maps)
}

/// A map that was stored when its nodes had a table of their own.
async fn before_bodies(
    conn: &mut Conn,
    row: &Row,
    keyspace: &Keyspace,
) -> Result<Topology, FleetError> {
    let mut nodes = Vec::new();
    let names = sql("SELECT name FROM ms_fleet_node ORDER BY position");
    for row in conn.fetch_all(names).await? {
        nodes.push(NodeId::new(&row.get::<String>("name")?)?);
    }
    let slots = row.get::<Vec<u8>>("slots")?;
    let slots = slots
        .chunks_exact(2)
        .map(|s| u16::from_be_bytes([s[0], s[1]]))
        .collect();
    let map = Topology::stored(epoch(row)?, nodes, slots, keyspace.shards());
    Ok(map?)
}

fn the_newest(mut maps: Vec<Topology>) -> Result<Topology, FleetError> {
    // The first start stores keyspace and map together.
    Ok(maps.pop().ok_or(MapTextError::Line(1))?)
}

fn epoch(row: &Row) -> Result<Epoch, ShardError> {
    let epoch = u64::try_from(row.get::<i64>("epoch")?);
    Ok(Epoch::new(epoch.unwrap_or_default()))
}

fn number(epoch: Epoch) -> i64 {
    i64::try_from(epoch.get()).unwrap_or(i64::MAX)
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

/// Refuses another set of names than that of the map's nodes `had`, saying what
/// would have to move.
pub(super) fn compare(
    stored: &Topology,
    had: &[NodeId],
    wanted: &[NodeId],
) -> Result<(), FleetError> {
    let (mut had, mut asked) = (had.to_vec(), wanted.to_vec());
    had.sort();
    asked.sort();
    if had == asked {
        return Ok(());
    }
    let moves = stored.plan(wanted).map_err(FleetError::from)?;
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
        names(wanted),
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
