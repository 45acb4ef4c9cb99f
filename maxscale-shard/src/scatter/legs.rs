//! Which node is asked for what, by the map of one epoch.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use maxscale_core::fact::VirtualShard;

use super::order::{KeyType, OrderBy, check_name};
use super::reside::Reside;
use super::text::{self, Binds};
use super::{Scatter, ScatterError};
use crate::error::ShardError;
use crate::key::Key;
use crate::router::{Node, ReadPolicy};
use crate::sql::{Engine, Statement, Value};
use crate::topology::{Instead, SlotState, Topology};

/// What one node is asked for.
pub(super) struct Leg {
    pub(super) node: Node,
    /// The virtual shards that lie there.
    own: Vec<i32>,
    /// Keys of `own` that have another node.
    away: Vec<Diverted>,
    /// Keys of other virtual shards that have this node.
    here: Vec<Diverted>,
    /// Which of its servers may be asked.
    pub(super) policy: ReadPolicy,
    /// Why it cannot be asked.
    refused: Option<ShardError>,
}

/// Begins what is written around the statement, which itself is one.
const SELECT: &str = "SELECT";

/// A key that lies elsewhere than its virtual shard.
#[derive(Clone)]
struct Diverted {
    shard: i32,
    key: Value,
}

/// What is made of the rows.
pub(super) struct Shape<'s> {
    pub(super) output: &'s (dyn Fn(Engine) -> String + Sync),
    pub(super) order: Option<&'s OrderBy>,
    /// The row after which to begin.
    pub(super) after: Option<&'s [Value]>,
    pub(super) limit: Option<u32>,
}

// === impl Shape ===

impl<'s> Shape<'s> {
    pub(super) const fn of(output: &'s (dyn Fn(Engine) -> String + Sync)) -> Self {
        Self {
            output,
            order: None,
            after: None,
            limit: None,
        }
    }
}

// === impl Leg ===

impl Leg {
    fn on(node: &Node, scatter: &Scatter) -> Self {
        let refused = (!node.is_ready()).then(|| ShardError::NotReady {
            node: node.id().clone(),
        });
        Self {
            node: node.clone(),
            own: Vec::new(),
            away: Vec::new(),
            here: Vec::new(),
            policy: match scatter.policy {
                ReadPolicy::AtLeast(_) => ReadPolicy::Primary,
                policy => policy,
            },
            refused,
        }
    }

    /// Refuses it, whatever else was wrong.
    fn refuse(&mut self, outside: Option<ShardError>) {
        self.refused = outside.or_else(|| self.refused.take());
    }

    /// Why it cannot be asked, if so.
    pub(super) const fn take_refusal(&mut self) -> Option<ShardError> {
        self.refused.take()
    }

    /// What the node is asked.
    pub(super) fn statement(&self, scatter: &Scatter, shape: &Shape<'_>) -> Statement {
        let engine = self.node.database().engine();
        let mut binds = Binds(scatter.statement.values.clone());
        let mut shards = self.own.clone();
        shards.extend(self.here.iter().map(|diverted| diverted.shard));
        shards.sort_unstable();
        shards.dedup();
        let shards = binds.bind(Value::Ints(shards.into()));
        let asked = text::with_shards(scatter.statement.text(engine), engine, &shards);

        // A line of its own, as a comment may end the text.
        let output = (shape.output)(engine);
        let mut text = format!("{SELECT} {output} FROM ({asked}\n) AS leg");
        let mut conditions = Vec::new();
        if let Some((column, _)) = &scatter.key
            && !(self.away.is_empty() && self.here.is_empty())
        {
            conditions.push(self.served_here(column, engine, &mut binds));
        }
        if let (Some(order), Some(after)) = (shape.order, shape.after) {
            conditions.push(order.after(engine, after, |value| binds.bind(value)));
        }
        // Writing to a text cannot fail.
        if !conditions.is_empty() {
            let _ = write!(text, " WHERE {}", conditions.join(" AND "));
        }
        if let Some(order) = shape.order {
            let _ = write!(text, " ORDER BY {}", order.clause(engine));
        }
        if let Some(limit) = shape.limit {
            let _ = write!(text, " LIMIT {limit}");
        }
        Statement::composed(text, binds.0)
    }

    /// The condition that this node is the one that serves a row.
    fn served_here(&self, column: &str, engine: Engine, binds: &mut Binds) -> String {
        let own = binds.bind(Value::Ints(self.own.as_slice().into()));
        let mut own = text::among("leg.shard_id", engine, &own);
        for diverted in &self.away {
            // A row without a key is none of them.
            let it = diverted.is(column, binds);
            let _ = write!(own, " AND NOT coalesce({it}, false)");
        }
        let mut ways = vec![own];
        ways.extend(self.here.iter().map(|diverted| diverted.is(column, binds)));
        format!("({})", ways.join(" OR "))
    }
}

// === impl Diverted ===

impl Diverted {
    fn is(&self, column: &str, binds: &mut Binds) -> String {
        let shard = self.shard;
        let key = binds.bind(self.key.clone());
        format!(r#"(leg.shard_id = {shard} AND leg."{column}" = {key})"#)
    }
}

/// What each node is asked for, in the order of their names.
pub(super) fn legs(scatter: &Scatter) -> Result<Vec<Leg>, ScatterError> {
    let (map, nodes, residency) = scatter.router.snapshot();
    let reside = Reside::new(scatter, &map, &residency)?;
    let mut legs: BTreeMap<u16, Leg> = BTreeMap::new();
    let mut wanted = vec![false; map.shards() as usize];
    let all = (0..map.shards()).map(VirtualShard::new);
    let shards: Vec<VirtualShard> = match &scatter.among {
        Some(among) => among.clone(),
        None => all.collect(),
    };
    for shard in shards {
        let out_of_range = || ShardError::OutOfRange {
            shard,
            count: map.shards(),
        };
        let slot = map.slot(shard).ok_or_else(out_of_range);
        let slot = slot.map_err(ScatterError::Shard)?;
        let twice = std::mem::replace(&mut wanted[shard.get() as usize], true);
        if twice || !reside.asks(slot.node) {
            continue;
        }
        let on = || Leg::on(&nodes[usize::from(slot.node)], scatter);
        let leg = legs.entry(slot.node).or_insert_with(on);
        leg.own.push(number(shard));
        if slot.state != SlotState::Serving {
            leg.policy = ReadPolicy::Primary;
        }
        if slot.state == SlotState::Frozen {
            leg.refused.get_or_insert(ShardError::Frozen {
                shard,
                epoch: map.epoch(),
            });
        }
        leg.refuse(reside.shard(shard, slot.node));
    }
    for (key, own, home, place) in diverted(scatter, &map) {
        if !wanted[own.get() as usize] {
            continue;
        }
        let (column, of) = scatter.key.as_ref().ok_or(ScatterError::NoKeyColumn)?;
        check_name(column)?;
        // A key that the column cannot hold has no row.
        let Some(value) = key.with_text(|text| value(text, *of)) else {
            continue;
        };
        let shard = number(own);
        let diverted = Diverted { shard, key: value };
        if let Some(leg) = legs.get_mut(&home) {
            leg.away.push(diverted.clone());
            // It would be told of the key that it has to leave out.
            leg.refuse(reside.key(key, own, home));
        }
        if reside.asks(place) {
            let on = || Leg::on(&nodes[usize::from(place)], scatter);
            let leg = legs.entry(place).or_insert_with(on);
            leg.here.push(diverted);
            leg.refuse(reside.key(key, own, place));
        }
    }
    for (place, leg) in &legs {
        let shard = (leg.own.iter()).chain(leg.here.iter().map(|here| &here.shard));
        let shard = shard.min().copied().unwrap_or_default();
        reside.leg(VirtualShard::new(shard.unsigned_abs()), *place)?;
    }
    let mut legs: Vec<Leg> = legs.into_values().collect();
    legs.sort_by(|a, b| a.node.id().cmp(b.node.id()));
    for engine in [Engine::Postgres, Engine::Sqlite] {
        if legs
            .iter()
            .any(|leg| leg.node.database().engine() == engine)
        {
            text::check(&scatter.statement, engine)?;
        }
    }
    Ok(legs)
}

/// The keys that have a node of their own, each with its own virtual shard, the
/// node of that, and the one that it has instead.
fn diverted<'m>(
    scatter: &'m Scatter,
    map: &'m Topology,
) -> impl Iterator<Item = (Key<'m>, VirtualShard, u16, u16)> {
    map.diverted().flat_map(move |(key, to)| {
        // One that has no place in the keyspace is nobody's key.
        let own = scatter.router.whole_keyspace().shards_of_name(key);
        own.into_iter().flatten().filter_map(move |own| {
            let Instead::Node(place) = to else {
                return None;
            };
            let home = map.slot(own)?.node;
            (home != place).then_some((key, own, home, place))
        })
    })
}

fn value(key: &str, of: KeyType) -> Option<Value> {
    match of {
        KeyType::Uuid => Some(Value::Uuid(Some(key.parse().ok()?))),
        KeyType::I64 => Some(Value::I64(Some(key.parse().ok()?))),
        KeyType::Text => Some(key.into()),
        KeyType::Bool | KeyType::Bytes => None,
    }
}

fn number(shard: VirtualShard) -> i32 {
    i32::try_from(shard.get()).expect("there are at most 131,072 virtual shards")
}
