use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

use super::node::Node;
use super::{Map, Router};
use crate::database::{DatabaseOptions, Opener};
use crate::error::ShardError;
use crate::fleet::NodeSpec;
use crate::keyspace::Keyspace;
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
        let map = Map::new(topology, nodes);
        Ok(Self::over(keyspace, map, opener, true))
    }

    /// Whether [`reload`](Self::reload) would open the nodes of `topology`.
    pub(crate) fn check(&self, topology: &Topology, nodes: &[NodeSpec]) -> Result<(), ReloadError> {
        topology.fits(&self.0.keyspace)?;
        let listed = |id: &&NodeId| nodes.iter().any(|node| node.id() == *id);
        match topology.nodes().iter().find(|id| !listed(id)) {
            Some(id) => Err(ReloadError::NoEntry(id.clone())),
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
        let Self(inner, _) = self;
        let nodes = open(&topology, nodes, &inner.opener, &old.nodes, inner.trusting)?;
        inner.map.store(Arc::new(Map::new(topology, nodes)));
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
