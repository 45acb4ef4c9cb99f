use std::sync::Arc;

use maxscale_core::fact::VirtualShard;

use super::Map;
use super::node::Node;
use super::shard::Shard;
use crate::error::ShardError;
use crate::key::Key;
use crate::keyspace::Keyspace;
use crate::residency::{Asked, Outside};
use crate::topology::{Epoch, Instead, Slot, SlotState};

/// Where a key lies, by the map of one epoch.
#[derive(Clone, Debug)]
pub struct Route {
    place: Shard,
    why: Why,
    outside: Option<Arc<Outside>>,
}

/// What decided where a key lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Why {
    /// The virtual shard in the id's bits.
    Id,
    /// The keyspace's vindex.
    Vindex,
    /// An override to another virtual shard.
    OverrideShard,
    /// An override to another node, under the key's own virtual shard.
    OverrideNode,
}

// === impl Route ===

impl Route {
    pub(super) fn of(
        keyspace: &Keyspace,
        map: &Map,
        key: Key<'_>,
        tables: &[Arc<str>],
    ) -> Result<Self, ShardError> {
        let (own, key) = keyspace.read(key)?;
        let instead = map.topology.instead(key);
        let (shard, slot, why) = match instead {
            None if key.id().is_some() => (own, map.slot(own)?, Why::Id),
            None => (own, map.slot(own)?, Why::Vindex),
            Some((_, Instead::Shard(to))) => (to, map.slot(to)?, Why::OverrideShard),
            // What happens to the virtual shard meanwhile does not concern the key.
            Some((_, Instead::Node(node))) => (own, Slot::on(node), Why::OverrideNode),
        };
        let asked = Asked {
            shard,
            node: slot.node,
            key: Some((key, instead.map(|(at, _)| at))),
            tables,
        };
        let (place, outside) = map.place(&asked, slot);
        Ok(Self {
            place,
            why,
            outside,
        })
    }

    /// The virtual shard.
    pub const fn virtual_shard(&self) -> VirtualShard {
        self.place.id
    }

    /// The node.
    pub const fn node(&self) -> &Node {
        &self.place.node
    }

    /// The epoch of the map that says so.
    pub const fn epoch(&self) -> Epoch {
        self.place.epoch
    }

    /// How the key is served there.
    pub const fn state(&self) -> SlotState {
        self.place.state
    }

    /// What decided.
    pub const fn why(&self) -> Why {
        self.why
    }

    /// Why it may not be asked there: it is pinned to other regions.
    pub fn outside(&self) -> Option<&Outside> {
        self.outside.as_deref()
    }

    /// The shard to run statements on.
    ///
    /// # Errors
    ///
    /// Returns [`ShardError::Residency`] where it may not be asked,
    /// [`ShardError::Frozen`] while it moves to another node,
    /// [`ShardError::NotReady`] while its node was not reached since the start.
    pub fn shard(self) -> Result<Shard, ShardError> {
        served((self.place, self.outside))
    }
}

// === impl Map ===

impl Map {
    pub(super) fn slot(&self, shard: VirtualShard) -> Result<Slot, ShardError> {
        let slot = self.topology.slot(shard);
        slot.ok_or_else(|| ShardError::OutOfRange {
            shard,
            count: self.topology.shards(),
        })
    }

    /// A virtual shard, to run statements on.
    pub(super) fn shard(
        &self,
        shard: VirtualShard,
        tables: &[Arc<str>],
    ) -> Result<Shard, ShardError> {
        let slot = self.slot(shard)?;
        let asked = Asked {
            shard,
            node: slot.node,
            key: None,
            tables,
        };
        served(self.place(&asked, slot))
    }

    fn place(&self, asked: &Asked<'_>, slot: Slot) -> (Shard, Option<Arc<Outside>>) {
        let node = &self.nodes[usize::from(slot.node)];
        let broken = self.residency.breaks(asked);
        let tell = |pin| (self.residency).tell(pin, asked.shard, slot.node, node.id());
        let place = Shard {
            id: asked.shard,
            node: node.clone(),
            epoch: self.topology.epoch(),
            state: slot.state,
        };
        (place, broken.map(tell).map(Arc::new))
    }
}

fn served((place, outside): (Shard, Option<Arc<Outside>>)) -> Result<Shard, ShardError> {
    match outside {
        Some(outside) => Err(ShardError::Residency(outside)),
        None => place.served(),
    }
}
