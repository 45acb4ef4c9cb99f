mod change;
mod error;
#[cfg(feature = "toml")]
mod file;
mod overrides;
mod plan;
mod text;

use std::fmt;
use std::sync::Arc;

use maxscale_core::fact::VirtualShard;

use crate::key::Key;
use crate::keyspace::Keyspace;
use crate::vindex::Vindex;

pub use change::TopologyBuilder;
pub use error::TopologyError;
#[cfg(feature = "toml")]
pub use file::{MapFile, MapFileError};
pub use overrides::{Override, Target};
pub use plan::SlotMove;
pub use text::MapTextError;

pub(crate) use overrides::Instead;
use overrides::Overrides;

/// Names a node: a database to connect to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(Arc<str>);

/// Counts the changes of a map; a router refuses an older one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Epoch(u64);

/// How a virtual shard is served while it moves from one node to another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SlotState {
    /// It lies still.
    #[default]
    Serving,
    /// It is about to move: what is read must be asked of its node's primary.
    Strict,
    /// It changes hands, which takes a moment: the router refuses it.
    Frozen,
}

/// Which node holds each virtual shard. Opens no connection.
///
/// Never changed: [`change`](Self::change) makes the map of the next epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    epoch: Epoch,
    nodes: Vec<NodeId>,
    slots: Vec<Slot>,
    overrides: Overrides,
}

/// Where a virtual shard lies, by the place of the node in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) node: u16,
    pub(crate) state: SlotState,
}

// === impl NodeId ===

impl NodeId {
    /// The longest name, in bytes.
    pub const MAX_LEN: usize = 63;

    /// The node called `name`.
    ///
    /// # Errors
    ///
    /// Returns [`TopologyError::Name`] unless the name is 1 to 63 of `a-z`, `0-9`, `-`.
    pub fn new(name: &str) -> Result<Self, TopologyError> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if (1..=Self::MAX_LEN).contains(&name.len()) && name.bytes().all(plain) {
            Ok(Self(name.into()))
        } else {
            Err(TopologyError::Name(name.to_owned()))
        }
    }

    /// The node's name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn shared(&self) -> Arc<str> {
        self.0.clone()
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// === impl Epoch ===

impl Epoch {
    /// The epoch of a fleet's first map.
    pub const FIRST: Self = Self(1);

    /// The epoch numbered `number`.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The epoch's number.
    pub const fn get(self) -> u64 {
        self.0
    }

    const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

// === impl SlotState ===

impl SlotState {
    /// The state's name: `serving`, `strict` or `frozen`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::Strict => "strict",
            Self::Frozen => "frozen",
        }
    }
}

impl fmt::Display for SlotState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

// === impl Topology ===

impl Topology {
    /// The most virtual shards a keyspace may have.
    pub const MAX_SHARDS: u32 = 131_072;

    /// Shares `shards` virtual shards among `nodes`, in ranges equal within one.
    ///
    /// # Errors
    ///
    /// Returns [`TopologyError`] for a doubled name or an impossible count.
    pub fn even(nodes: Vec<NodeId>, shards: u32) -> Result<Self, TopologyError> {
        check_nodes(&nodes, shards)?;
        let count = u64::try_from(nodes.len()).unwrap_or(u64::MAX);
        // Below the number of nodes, which is below u16::MAX.
        let node_of = |slot: u32| u64::from(slot) * count / u64::from(shards);
        let slots = (0..shards)
            .map(|slot| Slot::on(u16::try_from(node_of(slot)).unwrap_or(u16::MAX)))
            .collect();
        Ok(Self {
            epoch: Epoch::FIRST,
            nodes,
            slots,
            overrides: Overrides::default(),
        })
    }

    /// The map that a catalog stored: the node of each slot, by its place in `nodes`.
    ///
    /// # Errors
    ///
    /// Returns [`TopologyError`] for an unknown node, a doubled name, or more or
    /// fewer slots than virtual shards.
    pub fn stored(
        epoch: Epoch,
        nodes: Vec<NodeId>,
        slots: Vec<u16>,
        shards: u32,
    ) -> Result<Self, TopologyError> {
        check_nodes(&nodes, shards)?;
        if u32::try_from(slots.len()) != Ok(shards) {
            return Err(TopologyError::OtherCount {
                found: slots.len(),
                expected: shards,
            });
        }
        let unknown = |(_, place): &(u32, &u16)| usize::from(**place) >= nodes.len();
        if let Some((slot, place)) = (0..).zip(&slots).find(unknown) {
            return Err(TopologyError::UnknownPlace {
                shard: VirtualShard::new(slot),
                place: *place,
            });
        }
        Ok(Self {
            epoch,
            nodes,
            slots: slots.into_iter().map(Slot::on).collect(),
            overrides: Overrides::default(),
        })
    }

    /// Starts a map of `shards` virtual shards that lie on none of `nodes` yet.
    ///
    /// # Examples: which node holds what, written down
    ///
    /// ```
    /// use maxscale_shard::{NodeId, Topology};
    ///
    /// let (eu, us) = (NodeId::new("eu-1")?, NodeId::new("us-1")?);
    /// let map = Topology::builder([eu.clone(), us.clone()], 1024)
    ///     .assign(0..768, &eu)
    ///     .assign(768..1024, &us)
    ///     .build()?;
    /// # Ok::<(), maxscale_shard::TopologyError>(())
    /// ```
    pub fn builder(nodes: impl IntoIterator<Item = NodeId>, shards: u32) -> TopologyBuilder {
        TopologyBuilder::fresh(nodes.into_iter().collect(), shards)
    }

    /// Starts the map of the next epoch, which is this one but for what is changed.
    pub fn change(&self) -> TopologyBuilder {
        TopologyBuilder::of(self)
    }

    /// The map's epoch.
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The keyspace's number of virtual shards.
    pub fn shards(&self) -> u32 {
        u32::try_from(self.slots.len()).unwrap_or(Self::MAX_SHARDS)
    }

    /// All nodes, in the order of their first listing.
    pub fn nodes(&self) -> &[NodeId] {
        &self.nodes
    }

    /// The place in [`nodes`](Self::nodes) of the node that holds `shard`.
    pub fn locate(&self, shard: VirtualShard) -> Option<usize> {
        self.slot(shard).map(|slot| usize::from(slot.node))
    }

    /// How `shard` is served.
    pub fn state(&self, shard: VirtualShard) -> Option<SlotState> {
        self.slot(shard).map(|slot| slot.state)
    }

    /// The keys that do not lie where their text or their bits say.
    pub fn overrides(&self) -> impl Iterator<Item = Override> {
        self.overrides.listed(&self.nodes)
    }

    pub(crate) fn slot(&self, shard: VirtualShard) -> Option<Slot> {
        let slot = usize::try_from(shard.get()).ok()?;
        self.slots.get(slot).copied()
    }

    /// What a key has instead of its virtual shard, and the place of that override.
    pub(crate) fn instead(&self, key: Key<'_>) -> Option<(usize, Instead)> {
        self.overrides.find(key)
    }

    /// The keys that lie elsewhere, in the order of their overrides' places.
    pub(crate) fn diverted(&self) -> impl Iterator<Item = (Key<'_>, Instead)> {
        self.overrides.keys()
    }

    /// The place of the node on which that is.
    pub(crate) fn node_of(&self, to: Instead) -> Option<u16> {
        match to {
            Instead::Shard(shard) => self.slot(shard).map(|slot| slot.node),
            Instead::Node(node) => Some(node),
        }
    }

    /// Whether this can be a map of `keyspace`.
    ///
    /// # Errors
    ///
    /// Returns [`TopologyError::OtherCount`] for another number of virtual
    /// shards, [`TopologyError::Residency`] for an override that leads a key out
    /// of its region.
    pub fn fits(&self, keyspace: &Keyspace) -> Result<(), TopologyError> {
        if self.shards() != keyspace.shards() {
            return Err(TopologyError::OtherCount {
                found: self.slots.len(),
                expected: keyspace.shards(),
            });
        }
        match keyspace.vindex() {
            Vindex::Region(regions) => self.overrides.stay_in(regions),
            _ => Ok(()),
        }
    }
}

// === impl Slot ===

impl Slot {
    pub(crate) const fn on(node: u16) -> Self {
        Self {
            node,
            state: SlotState::Serving,
        }
    }
}

fn place(nodes: &[NodeId], node: &NodeId) -> Result<u16, TopologyError> {
    (nodes.iter().position(|listed| listed == node))
        .and_then(|at| u16::try_from(at).ok())
        .ok_or_else(|| TopologyError::Unknown(node.clone()))
}

fn check_nodes(nodes: &[NodeId], shards: u32) -> Result<(), TopologyError> {
    let fits = (1..=Topology::MAX_SHARDS).contains(&shards)
        && (1..usize::from(u16::MAX)).contains(&nodes.len())
        && u32::try_from(nodes.len()).is_ok_and(|n| n <= shards);
    if !fits {
        return Err(TopologyError::Count {
            nodes: nodes.len(),
            shards,
        });
    }
    let mut names: Vec<&NodeId> = nodes.iter().collect();
    names.sort();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(TopologyError::Twice(pair[0].clone())),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
