//! Where the data of a key may stand: pins, and what follows from them for a map.
//!
//! A pin keeps virtual shards, a key or a table to regions. What a node holds
//! flows to every server of it, so a node stands inside only if each of its
//! servers does, its replicas included; a server of which nobody said where it
//! stands is outside. So a read from any of them, and a promotion of any of them,
//! stays inside too.
//!
//! ```text
//!  pins ─ bound to a keyspace ─ judged for the nodes of a map ─┬─ routing: refused before anything is sent
//!        (at the start)        (at each map)                  ├─ Fleet::change: refused before it is stored
//!                                                             └─ the log: what stands outside
//! ```
//!
//! Only what is pinned and stands outside is refused; all else goes on. This
//! opens no connection, and knows only the servers that are listed: what a
//! backup, a log or a replica that nobody listed holds is not seen here.
//!
//! # Examples: what lives in Europe stays there
//!
//! ```
//! use maxscale_core::fact::RegionId;
//! use maxscale_shard::residency::Residency;
//!
//! let region = |name| RegionId::new(name).expect("a region's name");
//! let europe = [region("eu-west"), region("eu-central")];
//! let residency = Residency::new()
//!     // Whatever lives in the home region eu of the keyspace.
//!     .pin_home(region("eu"), europe.clone())
//!     // One tenant, wherever its virtual shard lies.
//!     .pin_key("acme", europe.clone())
//!     // Whoever asks by `router.table("health_record")`.
//!     .pin_table("health_record", europe);
//! ```

mod bound;
mod spread;
mod verdict;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use maxscale_core::fact::{RegionId, VirtualShard};

use crate::error::ShardError;
use crate::key::{Key, OwnedKey};
use crate::topology::NodeId;

pub(crate) use bound::{Bound, Stand};
pub(crate) use spread::spread;
pub(crate) use verdict::{Asked, Verdict};

/// Which regions the servers of a key may stand in. Without a pin: any.
///
/// Where several pins concern a key, all of them hold. For a
/// [`Fleet`](crate::Fleet) it is a part of the
/// [configuration](crate::FleetConfig::residency), else
/// [`Router::pin`](crate::Router::pin) takes it.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Residency {
    pins: Vec<Pin>,
}

#[derive(Clone, Debug)]
struct Pin {
    what: Pinned,
    /// What [`Pinned::Key`] does not tell.
    key: Option<OwnedKey>,
    regions: Arc<[RegionId]>,
}

/// What a pin keeps to its regions.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Pinned {
    /// The virtual shards of a home region.
    Home(RegionId),
    /// A range of virtual shards.
    Shards(Range<u32>),
    /// A key, which is not told: it may be nobody's business.
    Key,
    /// A table.
    Table(Arc<str>),
}

/// Something pinned lies on a node that does not stand wholly inside.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("virtual shard {shard} is not asked on {node}: {pinned} is kept to {}, and {stand}", listed(.regions))]
pub struct Outside {
    shard: VirtualShard,
    node: NodeId,
    pinned: Pinned,
    regions: Arc<[RegionId]>,
    stand: ForeignServer,
}

/// Where the first of a node's servers stands that is outside.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ForeignServer(Option<RegionId>);

/// Pins that cannot be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResidencyError {
    /// A pin names no region, so that nothing could be anywhere.
    #[error("the pin of {0} names no region")]
    NoRegion(Pinned),
    /// A pin names a region in which no server stands: perhaps a slip.
    #[error("the pin of {pinned} names {region}, where no listed server stands")]
    NoServer {
        /// What is pinned.
        pinned: Pinned,
        /// The region.
        region: RegionId,
    },
    /// No node stands wholly inside, so that nothing could serve what is pinned.
    #[error("no node has all its servers where the pin of {0} allows them")]
    NoNode(Pinned),
    /// The keyspace has no such home region.
    #[error("the keyspace has no home region {0}")]
    NoHome(RegionId),
    /// A range of virtual shards is empty, or ends beyond the keyspace.
    #[error("virtual shards {} to {} are pinned, and there are {count}", .shards.start, .shards.end)]
    Beyond {
        /// The range.
        shards: Range<u32>,
        /// The keyspace's number of virtual shards.
        count: u32,
    },
    /// A pinned key has no place in the keyspace.
    #[error("a pinned key has no place in the keyspace")]
    Key(#[source] Box<ShardError>),
}

// === impl Residency ===

impl Residency {
    /// No pin at all.
    pub fn new() -> Self {
        Self::default()
    }

    /// Keeps the virtual shards of a home region to `regions`. The keyspace says
    /// which those are, by its vindex [`Region`](crate::Vindex::Region); ids that
    /// were drawn for them count as well.
    pub fn pin_home(self, home: RegionId, regions: impl IntoIterator<Item = RegionId>) -> Self {
        self.pin(Pinned::Home(home), None, regions)
    }

    /// Keeps a range of virtual shards to `regions`, in keyspaces without home
    /// regions; `0..shards` keeps everything.
    pub fn pin_shards(
        self,
        shards: Range<u32>,
        regions: impl IntoIterator<Item = RegionId>,
    ) -> Self {
        self.pin(Pinned::Shards(shards), None, regions)
    }

    /// Keeps one key to `regions`, wherever its virtual shard lies. Other keys of
    /// that virtual shard are not concerned.
    pub fn pin_key<'k>(
        self,
        key: impl Into<Key<'k>>,
        regions: impl IntoIterator<Item = RegionId>,
    ) -> Self {
        let key = OwnedKey::new(key.into());
        self.pin(Pinned::Key, Some(key), regions)
    }

    /// Keeps a table to `regions`: whatever a router is asked that was told so, by
    /// [`Router::table`](crate::Router::table). Statements are not searched for
    /// names of tables.
    pub fn pin_table(
        self,
        table: impl Into<Arc<str>>,
        regions: impl IntoIterator<Item = RegionId>,
    ) -> Self {
        self.pin(Pinned::Table(table.into()), None, regions)
    }

    fn pin(
        mut self,
        what: Pinned,
        key: Option<OwnedKey>,
        regions: impl IntoIterator<Item = RegionId>,
    ) -> Self {
        let regions = regions.into_iter().collect();
        self.pins.push(Pin { what, key, regions });
        self
    }
}

// === impl Pinned ===

impl fmt::Display for Pinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Home(home) => write!(f, "what lives in {home}"),
            Self::Shards(shards) => write!(f, "the range {} to {}", shards.start, shards.end),
            Self::Key => f.write_str("the key"),
            Self::Table(table) => write!(f, "the table {table}"),
        }
    }
}

// === impl Outside ===

impl Outside {
    /// The virtual shard that was asked for.
    pub const fn shard(&self) -> VirtualShard {
        self.shard
    }

    /// The node that would have been asked.
    pub const fn node(&self) -> &NodeId {
        &self.node
    }

    /// What is pinned.
    pub const fn pinned(&self) -> &Pinned {
        &self.pinned
    }

    /// The regions that are allowed.
    pub fn regions(&self) -> &[RegionId] {
        &self.regions
    }
}

impl fmt::Display for ForeignServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(region) => write!(f, "a server of it stands in {region}"),
            None => f.write_str("nobody said where a server of it stands"),
        }
    }
}

fn listed(regions: &[RegionId]) -> String {
    let names: Vec<&str> = regions.iter().map(RegionId::as_str).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests;
