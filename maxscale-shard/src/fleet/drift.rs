//! What is in the databases that no migration made.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use maxscale_core::Chain;
use tokio::task::JoinSet;

use super::Fleet;
use super::ways::Ways;
use crate::database::Database;
use crate::error::ShardError;
use crate::migrate::LOCK;
use crate::migrate::shape::{self, Place, Shape};
use crate::router::Node;
use crate::sql::Engine;
use crate::topology::NodeId;

pub use crate::migrate::shape::{Change, Part};

/// What was changed in the databases of a fleet past its migrations. Displays as
/// lines for a person.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct DriftReport {
    /// The changes, by node in the order of the map; the catalog's own database
    /// comes last, as `catalog`.
    pub drifts: Vec<Drift>,
    /// The nodes that could not be looked at, and why.
    pub unseen: Vec<(NodeId, ShardError)>,
}

/// One change past the migrations.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Drift {
    /// The node.
    pub node: NodeId,
    /// The table.
    pub table: String,
    /// Which part of it.
    pub part: Part,
    /// How it is different.
    pub change: Change,
}

/// What one database has, and what its migrations made.
struct Look {
    node: NodeId,
    engine: Engine,
    found: Shape,
    recorded: Option<Shape>,
}

// === impl Fleet ===

impl Fleet {
    /// Compares the tables of every node with what its migrations made, and what
    /// they made there with what they made on the others. Changes nothing.
    ///
    /// Compared are the tables of the schema that the fleet's own are in, with
    /// their columns, constraints and indexes. It takes a statement or three per
    /// node, and is done by nobody but the caller. A step that runs while it looks
    /// may be told as a change.
    pub async fn drift(&self) -> DriftReport {
        let mut looks = JoinSet::new();
        for (at, node) in self.databases().into_iter().enumerate() {
            looks.spawn(async move { (at, node.id().clone(), look(&node).await) });
        }
        let mut looked = looks.join_all().await;
        looked.sort_by_key(|(at, ..)| *at);
        let (mut seen, mut report) = (Vec::new(), DriftReport::default());
        for (_, node, look) in looked {
            match look {
                Ok(look) => seen.push(look),
                Err(error) => report.unseen.push((node, error)),
            }
        }
        report.drifts = seen.iter().flat_map(Look::drifts).collect();
        for engine in [Engine::Postgres, Engine::Sqlite] {
            let alike = seen.iter().filter(|look| look.engine == engine);
            report.drifts.extend(unlike(&alike.collect::<Vec<_>>()));
        }
        report
    }

    /// Records what is there now as what the migrations made, on every node: for
    /// changes by hand that are meant to stay.
    ///
    /// # Errors
    ///
    /// Returns [`ShardError`] of the first node that cannot be written to. Those
    /// before it are recorded.
    pub async fn accept_drift(&self) -> Result<(), ShardError> {
        for node in self.databases() {
            accept(Ways::to(&node).admin()).await?;
        }
        Ok(())
    }

    /// The nodes, and the catalog's own database if it has one.
    fn databases(&self) -> Vec<Node> {
        let mut nodes = self.router.nodes().to_vec();
        if self.charter.config.catalog.is_some() {
            nodes.push(self.catalog.clone());
        }
        nodes
    }
}

async fn look(node: &Node) -> Result<Look, ShardError> {
    let ways = Ways::to(node);
    let admin = ways.admin().background();
    let mut conn = admin.reader().await?;
    Ok(Look {
        node: node.id().clone(),
        engine: conn.engine(),
        recorded: shape::recorded(&mut conn).await?,
        found: shape::found(&mut conn).await?,
    })
}

async fn accept(database: &Database) -> Result<(), ShardError> {
    let mut tx = database.begin().await?;
    tx.execute(LOCK.statement()).await?;
    tx.execute(shape::RECORD.statement()).await?;
    let found = shape::found(&mut tx).await?;
    shape::record(&mut tx, &found).await?;
    tx.commit().await.map(drop)
}

/// Where nodes differ in what their migrations made of a table that they share.
fn unlike(looks: &[&Look]) -> Vec<Drift> {
    let with = |look: &&Look| Some((look.node.clone(), look.recorded.clone()?));
    let nodes: Vec<(NodeId, Shape)> = looks.iter().filter_map(with).collect();
    let places: BTreeSet<&Place> = nodes.iter().flat_map(|(_, shape)| shape.places()).collect();
    let mut changes: BTreeMap<&NodeId, Vec<(Place, Change)>> = BTreeMap::new();
    for place in places {
        let table = (place.0.clone(), Part::Table);
        let holders = nodes
            .iter()
            .filter(|(_, shape)| shape.get(&table).is_some());
        let made: Vec<_> = holders
            .map(|(node, shape)| (node, shape.get(place)))
            .collect();
        let count = |one: Option<&String>| made.iter().filter(|(_, other)| *other == one).count();
        // Of as many each, what the first has is taken as meant.
        let most = made.iter().rev().max_by_key(|(_, one)| count(*one));
        let most = most.and_then(|(_, most)| *most);
        for (node, recorded) in made.into_iter().filter(|(_, one)| *one != most) {
            let change = Change::Unlike {
                most: most.cloned(),
                recorded: recorded.cloned(),
            };
            changes
                .entry(node)
                .or_default()
                .push((place.clone(), change));
        }
    }
    let drifts = changes.into_iter().flat_map(|(node, changes)| {
        let essential = shape::essential(changes).into_iter();
        essential.map(|(place, change)| Drift::of(node, place, change))
    });
    drifts.collect()
}

// === impl Look ===

impl Look {
    fn drifts(&self) -> Vec<Drift> {
        let changes = match &self.recorded {
            Some(recorded) => recorded.changes(&self.found),
            None => {
                let record = ("ms_schema".to_owned(), Part::Table);
                vec![(record, Change::Unrecorded)]
            }
        };
        let drifts = changes.into_iter();
        drifts
            .map(|(place, change)| Drift::of(&self.node, place, change))
            .collect()
    }
}

// === impl Drift ===

impl Drift {
    fn of(node: &NodeId, (table, part): Place, change: Change) -> Self {
        Self {
            node: node.clone(),
            table,
            part,
            change,
        }
    }
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            node,
            table,
            part,
            change,
        } = self;
        match part {
            Part::Table => write!(f, "{node}: table {table} {change}"),
            _ => write!(f, "{node}: {part} of {table} {change}"),
        }
    }
}

// === impl DriftReport ===

impl DriftReport {
    /// Whether every node was looked at and is as its migrations made it.
    pub const fn is_clean(&self) -> bool {
        self.drifts.is_empty() && self.unseen.is_empty()
    }
}

impl fmt::Display for DriftReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for drift in &self.drifts {
            writeln!(f, "{drift}")?;
        }
        for (node, error) in &self.unseen {
            writeln!(f, "{node}: not looked at: {}", Chain(error))?;
        }
        Ok(())
    }
}
