//! What follows from pins for the nodes of one map.

use std::sync::Arc;

use maxscale_core::fact::{RegionId, VirtualShard};

use super::{Bound, ForeignServer, Outside, Stand};
use crate::key::Key;
use crate::keyspace::Keyspace;
use crate::topology::{Instead, NodeId, Topology};

/// What stands outside in one map, worked out once.
#[derive(Debug)]
pub(crate) struct Verdict {
    bound: Arc<Bound>,
    /// By node of the map.
    nodes: Vec<Stand>,
    /// By pin, and then by node: whether that node stands inside.
    inside: Vec<Vec<bool>>,
    /// By virtual shard the pin that it breaks; empty if none breaks any.
    slots: Vec<Option<usize>>,
    /// By override the pin that it breaks, and the key's own virtual shard.
    overrides: Vec<Option<(usize, VirtualShard)>>,
}

/// Of whom a node is asked for something.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    /// Where it lies.
    pub(crate) shard: VirtualShard,
    /// The node's place in the map.
    pub(crate) node: u16,
    /// The key, in the form that names it in the keyspace, and the place of its override.
    pub(crate) key: Option<(Key<'a>, Option<usize>)>,
    pub(crate) tables: &'a [Arc<str>],
}

/// Something pinned that stands outside by its map.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Misplaced {
    /// The key, where it is one that lies elsewhere by itself.
    key: Option<String>,
    pub(crate) outside: Outside,
}

// === impl Verdict ===

impl Verdict {
    /// What follows for `map`, whose nodes stand so.
    pub(crate) fn new(
        bound: Arc<Bound>,
        keyspace: &Keyspace,
        map: &Topology,
        nodes: Vec<Stand>,
    ) -> Self {
        let inside = bound.pins.iter();
        let inside: Vec<Vec<bool>> = inside
            .map(|pin| nodes.iter().map(|stand| pin.allows(stand)).collect())
            .collect();
        let broken = |shard, node: u16| {
            let mut pins = bound.of_shard(shard);
            pins.find(|pin| !inside[*pin][usize::from(node)])
        };
        let (mut slots, mut overrides) = (Vec::new(), Vec::new());
        if !bound.is_empty() {
            let all = (0..map.shards()).map(VirtualShard::new);
            slots = all
                .map(|shard| broken(shard, map.slot(shard)?.node))
                .collect();
            if slots.iter().all(Option::is_none) {
                slots.clear();
            }
            overrides = (map.diverted())
                .map(|(key, to)| {
                    let node = map.node_of(to)?;
                    let mut own = keyspace.shards_of_name(key).into_iter().flatten();
                    own.find_map(|own| Some((broken(own, node)?, own)))
                })
                .collect();
            if overrides.iter().all(Option::is_none) {
                overrides.clear();
            }
        }
        Self {
            bound,
            nodes,
            inside,
            slots,
            overrides,
        }
    }

    pub(crate) const fn bound(&self) -> &Arc<Bound> {
        &self.bound
    }

    /// The pin that this would break. Costs no allocation.
    pub(crate) fn breaks(&self, asked: &Asked<'_>) -> Option<usize> {
        let diverted = asked.key.and_then(|(_, at)| at);
        let (slots, overrides) = (&self.slots, &self.overrides);
        let by_shard = || {
            let slot = usize::try_from(asked.shard.get()).ok()?;
            let pin = slots.get(slot).copied().flatten()?;
            // A key with a node of its own does not lie where its virtual shard does.
            (!self.inside[pin][usize::from(asked.node)]).then_some(pin)
        };
        let by_override = || Some(overrides.get(diverted?).copied().flatten()?.0);
        let outside = |pin: &usize| !self.inside[*pin][usize::from(asked.node)];
        let by_key = || {
            let (key, _) = asked.key.filter(|_| self.bound.has_keys())?;
            self.bound.of_key(key).find(outside)
        };
        let by_table = || {
            let mut pins = (asked.tables.iter()).flat_map(|table| self.bound.of_table(table));
            pins.find(outside)
        };
        by_shard()
            .or_else(by_override)
            .or_else(by_key)
            .or_else(by_table)
    }

    /// The pins that hold for a key whose own virtual shard is `own`, and for
    /// what else lies where it does.
    pub(crate) fn of_key(&self, own: VirtualShard, lies: VirtualShard, key: Key<'_>) -> Vec<usize> {
        let mut pins: Vec<usize> = (self.bound.of_shard(own))
            .chain(self.bound.of_shard(lies))
            .chain(self.bound.of_key(key))
            .collect();
        pins.sort_unstable();
        pins.dedup();
        pins
    }

    /// The pins of tables.
    pub(crate) fn of_tables(&self, tables: &[Arc<str>]) -> Vec<usize> {
        let pins = tables.iter().flat_map(|table| self.bound.of_table(table));
        pins.collect()
    }

    /// Whether the node at that place stands inside all of `pins`; else the first that it breaks.
    pub(crate) fn first_broken(&self, pins: &[usize], node: u16) -> Option<usize> {
        let mut pins = pins.iter().copied();
        pins.find(|pin| !self.inside[*pin][usize::from(node)])
    }

    /// Whether all servers of the node at that place stand in `regions`.
    pub(crate) fn stands_in(&self, node: u16, regions: &[RegionId]) -> bool {
        let stand = &self.nodes[usize::from(node)];
        (stand.iter()).all(|region| region.as_ref().is_some_and(|r| regions.contains(r)))
    }

    /// What a pin says, for a person to read.
    pub(crate) fn tell_pin(&self, pin: usize) -> String {
        let pin = &self.bound.pins[pin];
        format!("{} is kept to {}", pin.what, super::listed(&pin.regions))
    }

    /// What is told of a broken pin.
    pub(crate) fn tell(&self, pin: usize, shard: VirtualShard, node: u16, id: &NodeId) -> Outside {
        let pin = &self.bound.pins[pin];
        let foreign = pin.foreign(&self.nodes[usize::from(node)]);
        Outside {
            shard,
            node: id.clone(),
            pinned: pin.what.clone(),
            regions: pin.regions.clone(),
            stand: ForeignServer(foreign.cloned().flatten()),
        }
    }

    /// All that is pinned and stands outside: virtual shards, overrides, keys.
    pub(crate) fn misplaced(&self, map: &Topology) -> Vec<Misplaced> {
        let mut all = Vec::new();
        let mut add = |key: Option<String>, pin, shard, node: u16| {
            let id = &map.nodes()[usize::from(node)];
            let outside = self.tell(pin, shard, node, id);
            all.push(Misplaced { key, outside });
        };
        for (shard, pin) in (0..).map(VirtualShard::new).zip(&self.slots) {
            if let (Some(pin), Some(slot)) = (pin, map.slot(shard)) {
                add(None, *pin, shard, slot.node);
            }
        }
        for ((key, to), broken) in map.diverted().zip(&self.overrides) {
            if let (Some((pin, own)), Some(node)) = (broken, map.node_of(to)) {
                let shard = match to {
                    Instead::Shard(shard) => shard,
                    Instead::Node(_) => *own,
                };
                add(Some(key.with_text(str::to_owned)), *pin, shard, node);
            }
        }
        for pinned in self.bound.keys() {
            let to = map.instead(pinned.key()).map(|(_, to)| to);
            let shard = match to {
                Some(Instead::Shard(shard)) => shard,
                _ => pinned.own,
            };
            let to = to.unwrap_or(Instead::Shard(shard));
            if let Some(node) = map.node_of(to)
                && !self.inside[pinned.pin][usize::from(node)]
            {
                add(
                    Some(pinned.key().with_text(str::to_owned)),
                    pinned.pin,
                    shard,
                    node,
                );
            }
        }
        all
    }

    /// Tells the log what stands outside, a line for each node and pin.
    pub(crate) fn warn(&self, map: &Topology) {
        let all = self.misplaced(map);
        let mut told: Vec<(&Outside, usize)> = Vec::new();
        for misplaced in &all {
            let outside = &misplaced.outside;
            let same = |(first, _): &&mut (&Outside, usize)| {
                first.node == outside.node && first.pinned == outside.pinned
            };
            match told.iter_mut().find(same) {
                Some((_, count)) => *count += 1,
                None => told.push((outside, 1)),
            }
        }
        for (first, count) in told {
            tracing::error!(
                epoch = %map.epoch(), node = %first.node, count, first = %first,
                "what is pinned lies outside its regions and is refused there"
            );
        }
    }
}
