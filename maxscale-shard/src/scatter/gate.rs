use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::ScatterError;
use crate::topology::NodeId;

/// How much scatters may ask at once, all of them together.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct ScatterLimits {
    /// The most legs at once, of all scatters.
    pub legs: u32,
    /// The most legs at once on one node. Below the number of connections for
    /// background work, what else they are for goes on.
    pub legs_per_node: u32,
}

/// Who may ask now. All clones of a router share it.
#[derive(Debug)]
pub(crate) struct Gate {
    limits: ScatterLimits,
    denied: bool,
    legs: Arc<Semaphore>,
    nodes: Mutex<HashMap<NodeId, Arc<Semaphore>>>,
}

/// The places of one leg, until dropped.
pub(super) struct Place {
    _node: OwnedSemaphorePermit,
    _leg: OwnedSemaphorePermit,
}

// === impl ScatterLimits ===

impl Default for ScatterLimits {
    /// 64 legs, 2 on one node.
    fn default() -> Self {
        Self {
            legs: 64,
            legs_per_node: 2,
        }
    }
}

// === impl Gate ===

const OPEN: &str = "no gate is ever closed";

impl Gate {
    pub(crate) fn new(limits: ScatterLimits, denied: bool) -> Self {
        Self {
            limits,
            denied,
            legs: Arc::new(Semaphore::new(limits.legs.max(1) as usize)),
            nodes: Mutex::default(),
        }
    }

    /// Whether `legs` may be asked at all, at once if they have to be.
    pub(super) fn admit(&self, legs: usize, at_once: bool) -> Result<(), ScatterError> {
        if self.denied {
            return Err(ScatterError::Denied);
        }
        let most = self.limits.legs.max(1) as usize;
        if at_once && legs > most {
            return Err(ScatterError::TooManyLegs { legs, most });
        }
        Ok(())
    }

    /// Waits for a place on `node`, and then for one among all: so a node that is
    /// slow keeps nobody from the others.
    pub(super) async fn place(&self, node: &NodeId) -> Place {
        let node = self.node(node).acquire_owned().await.expect(OPEN);
        let leg = self.legs.clone().acquire_owned().await.expect(OPEN);
        Place {
            _node: node,
            _leg: leg,
        }
    }

    /// Waits for a place on each of `nodes`, which are sorted: everybody waits
    /// for the same one first, so no two wait for each other.
    pub(super) async fn places(&self, nodes: &[NodeId]) -> Vec<Place> {
        let mut held = Vec::with_capacity(nodes.len());
        for node in nodes {
            held.push(self.node(node).acquire_owned().await.expect(OPEN));
        }
        let count = u32::try_from(nodes.len()).unwrap_or(u32::MAX);
        let all = self.legs.clone().acquire_many_owned(count).await;
        let mut all = all.expect(OPEN);
        let mut places = Vec::with_capacity(held.len());
        for node in held {
            let leg = all.split(1).expect("as many were taken as there are nodes");
            places.push(Place {
                _node: node,
                _leg: leg,
            });
        }
        places
    }

    fn node(&self, node: &NodeId) -> Arc<Semaphore> {
        let places = || Arc::new(Semaphore::new(self.limits.legs_per_node.max(1) as usize));
        // Nothing panics while it is held.
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        nodes.entry(node.clone()).or_insert_with(places).clone()
    }
}
