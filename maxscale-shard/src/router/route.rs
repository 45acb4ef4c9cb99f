use maxscale_core::fact::VirtualShard;

use super::Map;
use super::node::Node;
use super::shard::Shard;
use crate::error::ShardError;
use crate::key::Key;
use crate::keyspace::Keyspace;
use crate::topology::{Epoch, Instead, Slot, SlotState};

/// Where a key lies, by the map of one epoch.
#[derive(Clone, Debug)]
pub struct Route {
    place: Shard,
    why: Why,
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
    pub(super) fn of(keyspace: &Keyspace, map: &Map, key: Key<'_>) -> Result<Self, ShardError> {
        let (own, key) = keyspace.read(key)?;
        let (place, why) = match map.topology.instead(key) {
            None if key.id().is_some() => (map.place(own)?, Why::Id),
            None => (map.place(own)?, Why::Vindex),
            Some(Instead::Shard(shard)) => (map.place(shard)?, Why::OverrideShard),
            // What happens to the virtual shard meanwhile does not concern the key.
            Some(Instead::Node(node)) => (map.at(own, Slot::on(node)), Why::OverrideNode),
        };
        Ok(Self { place, why })
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

    /// The shard to run statements on.
    ///
    /// # Errors
    ///
    /// Returns [`ShardError::Frozen`] while it moves to another node,
    /// [`ShardError::NotReady`] while its node was not reached since the start.
    pub fn shard(self) -> Result<Shard, ShardError> {
        self.place.served()
    }
}

// === impl Map ===

impl Map {
    pub(super) fn place(&self, shard: VirtualShard) -> Result<Shard, ShardError> {
        let slot = self.topology.slot(shard);
        let slot = slot.ok_or_else(|| ShardError::OutOfRange {
            shard,
            count: self.topology.shards(),
        })?;
        Ok(self.at(shard, slot))
    }

    fn at(&self, id: VirtualShard, slot: Slot) -> Shard {
        Shard {
            id,
            node: self.nodes[usize::from(slot.node)].clone(),
            epoch: self.topology.epoch(),
            state: slot.state,
        }
    }
}
