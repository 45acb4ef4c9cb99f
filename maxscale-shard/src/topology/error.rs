use maxscale_core::fact::{RegionId, VirtualShard};

use super::NodeId;

/// A map that cannot be.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum TopologyError {
    /// The node's name is empty, too long, or has other characters than `a-z`, `0-9` and `-`.
    #[error("node name {0:?} must have 1 to 63 characters of a-z, 0-9 and '-'")]
    Name(String),
    /// Two nodes have one name.
    #[error("node {0} is listed twice")]
    Twice(NodeId),
    /// No node, or more nodes than virtual shards.
    #[error("{nodes} nodes cannot share {shards} virtual shards")]
    Count {
        /// How many nodes.
        nodes: usize,
        /// How many virtual shards.
        shards: u32,
    },
    /// The map is of a keyspace with another number of virtual shards.
    #[error("the map has {found} virtual shards, the keyspace has {expected}")]
    OtherCount {
        /// The map's number.
        found: usize,
        /// The keyspace's number.
        expected: u32,
    },
    /// A virtual shard lies on no node.
    #[error("virtual shard {0} lies on no node")]
    Gap(VirtualShard),
    /// A virtual shard lies on two nodes, or twice on one.
    #[error("virtual shard {shard} lies on {first} and on {second}")]
    Overlap {
        /// The virtual shard.
        shard: VirtualShard,
        /// The node that was said first.
        first: NodeId,
        /// The other one.
        second: NodeId,
    },
    /// The map names a virtual shard outside the keyspace.
    #[error("virtual shard {shard} lies outside the map of {count}")]
    Beyond {
        /// The virtual shard.
        shard: VirtualShard,
        /// The number of virtual shards.
        count: u32,
    },
    /// The map names a node that is not listed.
    #[error("node {0} is not listed")]
    Unknown(NodeId),
    /// The stored map names a node by a place where none is.
    #[error("virtual shard {shard} is stored on node number {place}, which is not listed")]
    UnknownPlace {
        /// The virtual shard.
        shard: VirtualShard,
        /// The place, from 0.
        place: u16,
    },
    /// A move was planned for another map: the virtual shard lies somewhere else.
    #[error("virtual shard {shard} does not lie on {node}")]
    Moved {
        /// The virtual shard.
        shard: VirtualShard,
        /// Where the plan takes it from.
        node: NodeId,
    },
    /// The node to be removed still holds a virtual shard, or a key by an override.
    #[error("node {0} still holds something")]
    InUse(NodeId),
    /// The key of an override is empty.
    #[error("an override has an empty key")]
    NoKey,
    /// Two overrides are of one key.
    #[error("two overrides are of one key, {0:?}")]
    Ambiguous(String),
    /// An override leads a key out of its region.
    #[error("an override takes {key:?} out of {region}")]
    Residency {
        /// The key.
        key: String,
        /// The region that the key names.
        region: RegionId,
    },
}
