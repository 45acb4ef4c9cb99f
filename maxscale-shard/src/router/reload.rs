use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

use super::node::Node;
use super::{Map, Router};
use crate::database::{DatabaseOptions, Opener};
use crate::error::ShardError;
use crate::fleet::NodeSpec;
use crate::keyspace::Keyspace;
use crate::residency::{Bound, Outside, Stand, Verdict};
use crate::telemetry::Telemetry;
use crate::topology::{Epoch, NodeId, Topology, TopologyError};

/// A map that a router does not take. It goes on with the one it has.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReloadError {
    /// The map is not one of this keyspace.
    #[error(transparent)]
    Topology(#[from] TopologyError),

    /// The map is older than the router's, or another one of the same epoch.
    #[error("a map of epoch {given} cannot follow one of epoch {current}")]
    Stale {
        /// The epoch of the router's map.
        current: Epoch,
        /// The epoch of the refused map.
        given: Epoch,
    },

    /// The map names a node whose URL is not known.
    #[error("the map names node {0}, which has no entry in the list of nodes")]
    NoEntry(NodeId),

    /// A node's URL is not usable.
    #[error(transparent)]
    Shard(#[from] ShardError),

    /// The map would put something outside the regions that it is pinned to. Only
    /// a [change](crate::Fleet::change) is refused for that: of a map that is there,
    /// what stands outside is told in the log and refused by itself.
    #[error(transparent)]
    Residency(Box<Outside>),
}

impl Router {
    /// A router over a map from code or a file, without a catalog.
    ///
    /// It connects to nothing yet, and holds every node to be what its entry says:
    /// nothing is migrated and no identity compared, as [`Fleet`](crate::Fleet)
    /// does. Entries that the map does not name are not used.
    ///
    /// # Errors
    ///
    /// Returns [`ReloadError`] for a map of another keyspace, a node without an
    /// entry, or a URL that is not usable.
    pub fn open(
        keyspace: Keyspace,
        topology: Topology,
        nodes: &[NodeSpec],
        options: DatabaseOptions,
    ) -> Result<Self, ReloadError> {
        Self::open_with(keyspace, topology, nodes, options, &Telemetry::new())
    }

    /// A router as [`open`](Self::open) makes one, which tells of itself.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn open_with(
        keyspace: Keyspace,
        topology: Topology,
        nodes: &[NodeSpec],
        options: DatabaseOptions,
        telemetry: &Telemetry,
    ) -> Result<Self, ReloadError> {
        topology.fits(&keyspace)?;
        let opener = Opener::new(options).telling(telemetry);
        let nodes = open(&topology, nodes, &opener, &[], true)?;
        let bound = Arc::new(Bound::default());
        let map = Map::new(&keyspace, topology.into(), nodes.into(), bound);
        Ok(Self::over(keyspace, map, opener, true))
    }

    /// Whether [`reload`](Self::reload) would open the nodes of `topology`, and
    /// nothing pinned would stand outside that does not stand there now.
    pub(crate) fn check(&self, topology: &Topology, nodes: &[NodeSpec]) -> Result<(), ReloadError> {
        topology.fits(&self.0.keyspace)?;
        let stand = |id: &NodeId| match nodes.iter().find(|node| node.id() == id) {
            Some(node) => Ok(node.stand()),
            None => Err(ReloadError::NoEntry(id.clone())),
        };
        let stands: Result<Vec<Stand>, _> = topology.nodes().iter().map(stand).collect();
        let map = self.0.map.load();
        let bound = map.residency.bound().clone();
        let next = Verdict::new(bound, &self.0.keyspace, topology, stands?);
        // What is wrong already is put right one step at a time.
        let now = map.residency.misplaced(&map.topology);
        let mut wrong = next.misplaced(topology).into_iter();
        match wrong.find(|misplaced| !now.contains(misplaced)) {
            Some(misplaced) => Err(ReloadError::Residency(Box::new(misplaced.outside))),
            None => Ok(()),
        }
    }

    /// Swaps the map, of this router and all its clones.
    ///
    /// A server whose node and URL are unchanged keeps its connections; one that
    /// left keeps them until nobody uses them any more. A new node, or one with
    /// a new URL, of a [`Fleet`](crate::Fleet) is not ready. What was begun per
    /// node, such as a worker, goes on with the nodes it was given.
    ///
    /// What is [pinned](crate::residency) and lies outside by the new map is told in
    /// the log, and refused; all else goes on.
    ///
    /// The map of the same epoch is taken again, for the sake of URLs that changed.
    ///
    /// # Errors
    ///
    /// Returns [`ReloadError`] for a map that is older or of another keyspace, a
    /// node without an entry, or a URL that is not usable. The router is as before.
    pub fn reload(&self, topology: Topology, nodes: &[NodeSpec]) -> Result<(), ReloadError> {
        topology.fits(&self.0.keyspace)?;
        // What is guarded is the swap itself: a panic elsewhere left it whole.
        let _alone = (self.0.reloading.lock()).unwrap_or_else(PoisonError::into_inner);
        let old = self.0.map.load_full();
        let (current, given) = (old.topology.epoch(), topology.epoch());
        if given < current || (given == current && topology != *old.topology) {
            return Err(ReloadError::Stale { current, given });
        }
        let Self(inner, ..) = self;
        let nodes = open(&topology, nodes, &inner.opener, &old.nodes, inner.trusting)?;
        let bound = old.residency.bound().clone();
        let map = Map::new(&inner.keyspace, topology.into(), nodes.into(), bound);
        inner.map.store(Arc::new(map));
        Ok(())
    }
}

/// The map's nodes: of `old` those that are still the same, the others opened.
fn open(
    topology: &Topology,
    entries: &[NodeSpec],
    opener: &Opener,
    old: &[Node],
    trusting: bool,
) -> Result<Vec<Node>, ReloadError> {
    // There may be a thousand of each.
    let entries: HashMap<&NodeId, &NodeSpec> =
        (entries.iter()).map(|entry| (entry.id(), entry)).collect();
    let old: HashMap<&NodeId, &Node> = old.iter().map(|node| (node.id(), node)).collect();
    let open = |id: &NodeId| {
        let entry = entries.get(id);
        let entry = entry.ok_or_else(|| ReloadError::NoEntry(id.clone()))?;
        let old = old.get(id).copied();
        if let Some(same) = old.filter(|node| node.is(entry)) {
            return Ok(Node::clone(same));
        }
        let node = Node::open(entry, opener, old)?;
        if trusting {
            node.set_ready();
        }
        Ok(node)
    };
    topology.nodes().iter().map(open).collect()
}
