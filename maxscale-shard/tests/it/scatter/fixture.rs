//! Some nodes with a table, and the same rows in one database.

use std::collections::BTreeMap;

use maxscale_core::id::KeyspaceTag;
use maxscale_shard::fleet::NodeSpec;
use maxscale_shard::scatter::{KeyType, OrderBy, OrderKey, ScatterError};
use maxscale_shard::{
    Database, DatabaseOptions, Engine, Keyspace, NodeId, Router, Row, Sql, Statement, Topology, sql,
};
use uuid::Uuid;

use crate::support::{Nodes, options};

pub(crate) const NODES: usize = 4;
pub(crate) const SHARDS: u32 = 64;

/// As a row of the table.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Thing {
    pub(crate) shard: u32,
    pub(crate) id: u128,
    pub(crate) n: Option<i64>,
    pub(crate) name: Option<String>,
    pub(crate) flag: Option<bool>,
    pub(crate) raw: Option<Vec<u8>>,
    pub(crate) owner: Option<String>,
}

pub(crate) struct Things {
    pub(crate) router: Router,
    pub(crate) nodes: Nodes,
}

/// Text in a collation that is not C, if the server has one.
const TABLE: [&str; 2] = [
    r#"CREATE TABLE thing (shard_id integer NOT NULL, id uuid NOT NULL, n bigint,
        name text COLLATE "und-x-icu", flag boolean, raw bytea, owner text,
        PRIMARY KEY (shard_id, id))"#,
    "CREATE TABLE thing (shard_id INTEGER NOT NULL, id BLOB NOT NULL, n INTEGER,
        name TEXT COLLATE NOCASE, flag INTEGER, raw BLOB, owner TEXT,
        PRIMARY KEY (shard_id, id)) WITHOUT ROWID",
];
const INSERT: &str = "INSERT INTO thing (shard_id, id, n, name, flag, raw, owner)
    VALUES ($1, $2, $3, $4, $5, $6, $7)";

/// All columns of all rows.
pub(crate) fn things() -> Statement {
    sql("SELECT shard_id, id, n, name, flag, raw, owner FROM thing WHERE shard_id = ANY($shards)")
}

// === impl Thing ===

impl Thing {
    pub(crate) fn read(row: &Row) -> Self {
        let shard: i64 = row.get("shard_id").unwrap();
        Self {
            shard: shard.try_into().unwrap(),
            id: row.get::<Uuid>("id").unwrap().as_u128(),
            n: row.get("n").unwrap(),
            name: row.get("name").unwrap(),
            flag: row.get("flag").unwrap(),
            raw: row.get("raw").unwrap(),
            owner: row.get("owner").unwrap(),
        }
    }

    fn insert(&self) -> Statement {
        sql(INSERT)
            .bind(self.shard)
            .bind(Uuid::from_u128(self.id))
            .bind(self.n)
            .bind(self.name.clone())
            .bind(self.flag)
            .bind(self.raw.clone())
            .bind(self.owner.clone())
    }
}

/// One thing on each virtual shard, numbered like it.
pub(crate) fn one_each() -> Vec<Thing> {
    let thing = |shard: u32| Thing {
        shard,
        id: u128::from(shard) + 1,
        n: Some(i64::from(shard)),
        ..Thing::default()
    };
    (0..SHARDS).map(thing).collect()
}

// === impl Things ===

impl Things {
    /// Four nodes of 16 virtual shards each.
    pub(crate) async fn fresh(engine: Engine) -> Self {
        Self::by(engine, "id").await
    }

    /// Its keys lie where `vindex` says.
    pub(crate) async fn by(engine: Engine, vindex: &str) -> Self {
        let nodes = Nodes::fresh(engine, NODES).await;
        Self::on(nodes, vindex, options()).await
    }

    pub(crate) async fn on(nodes: Nodes, vindex: &str, options: DatabaseOptions) -> Self {
        let specs = specs(&nodes.urls);
        let ids = specs.iter().map(|spec| spec.id().clone()).collect();
        let keyspace = Keyspace::new(KeyspaceTag::default(), SHARDS, vindex.parse().unwrap());
        let map = Topology::even(ids, SHARDS).unwrap();
        let router = Router::open(keyspace.unwrap(), map, &specs, options).unwrap();
        let things = Self { router, nodes };
        for node in things.router.nodes().iter() {
            node.database().reach().await.unwrap();
            make_table(node.database()).await;
        }
        things
    }

    /// Puts each row where the map says.
    pub(crate) async fn fill(&self, rows: &[Thing]) {
        let map = self.router.topology();
        let mut by_node: BTreeMap<usize, Vec<&Thing>> = BTreeMap::new();
        for row in rows {
            let shard = maxscale_core::fact::VirtualShard::new(row.shard);
            by_node
                .entry(map.locate(shard).unwrap())
                .or_default()
                .push(row);
        }
        for (at, rows) in by_node {
            let rows: Vec<Thing> = rows.into_iter().cloned().collect();
            self.put(at, &rows).await;
        }
    }

    /// Puts rows on a node, whatever the map says.
    pub(crate) async fn put(&self, at: usize, rows: &[Thing]) {
        insert(self.node(at), rows).await;
    }

    pub(crate) async fn clear(&self) {
        for at in 0..NODES {
            self.node(at)
                .execute(sql("DELETE FROM thing"))
                .await
                .unwrap();
        }
    }

    pub(crate) fn node(&self, at: usize) -> Database {
        self.router.nodes()[at].database().clone()
    }

    /// All rows in `order`, by the crate.
    pub(crate) async fn merged(&self, order: &OrderBy) -> Result<Vec<Thing>, ScatterError> {
        let mut merged = self.router.scatter(things()).merge(order).await?;
        let mut rows = Vec::new();
        while let Some(row) = merged.next().await? {
            rows.push(Thing::read(&row));
        }
        assert!(merged.failures().is_empty());
        Ok(rows)
    }
}

pub(crate) fn specs(urls: &[String]) -> Vec<NodeSpec> {
    (1..)
        .zip(urls)
        .map(|(at, url)| NodeSpec::parse(url, at).unwrap())
        .collect()
}

pub(crate) fn node_id(number: usize) -> NodeId {
    NodeId::new(&format!("node-{number}")).unwrap()
}

pub(crate) async fn make_table(database: &Database) {
    const MADE: Sql = Sql::each(TABLE[0], TABLE[1]);
    database.execute(MADE.statement()).await.unwrap();
}

pub(crate) async fn insert(database: Database, rows: &[Thing]) {
    let mut tx = database.begin().await.unwrap();
    for row in rows {
        tx.execute(row.insert()).await.unwrap();
    }
    tx.commit().await.unwrap();
}

pub(crate) fn by_id() -> OrderBy {
    OrderBy::new([OrderKey::asc("id", KeyType::Uuid)]).unwrap()
}

pub(crate) fn ids(rows: &[Thing]) -> Vec<u128> {
    rows.iter().map(|row| row.id).collect()
}
