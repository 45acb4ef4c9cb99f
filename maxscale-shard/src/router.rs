mod explain;
#[cfg(feature = "postgres")]
mod fresh;
mod node;
#[cfg(feature = "postgres")]
mod pick;
mod pinned;
mod policy;
#[cfg_attr(
    not(any(feature = "postgres", test)),
    expect(dead_code, reason = "only PostgreSQL has replicas")
)]
mod primary;
mod reload;
mod rerun;
mod route;
mod shard;
mod source;
#[cfg(feature = "postgres")]
mod watch;

use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use maxscale_core::fact::VirtualShard;
use maxscale_core::id::KeyspaceTag;

use crate::database::Opener;
use crate::error::ShardError;
use crate::key::Key;
use crate::keyspace::Keyspace;
use crate::residency::{Bound, Stand, Verdict};
use crate::scatter::{Gate, ScatterLimits};
use crate::telemetry::Load;
use crate::topology::Topology;
use crate::vindex::sha256;

pub use explain::Explanation;
#[cfg(feature = "postgres")]
pub(crate) use fresh::Replayed;
pub use node::{Endpoint, Node, Role};
pub use policy::ReadPolicy;
#[cfg(feature = "postgres")]
pub(crate) use primary::Seen;
pub use primary::WritesRefused;
pub use reload::ReloadError;
pub use route::{Route, Why};
pub use shard::Shard;

/// Finds the node of a key. Cheap to clone; routing costs no I/O and no allocation.
///
/// All clones share one map, which [`reload`](Self::reload) swaps while they are
/// used: nobody waits for that, and an answer is of one map, the old or the new.
#[derive(Clone, Debug)]
pub struct Router(Arc<Inner>, Arc<Gate>, Arc<[Arc<str>]>);

#[derive(Debug)]
struct Inner {
    keyspace: Keyspace,
    map: ArcSwap<Map>,
    /// Held by who makes the next map; never by who reads one.
    reloading: Mutex<()>,
    opener: Opener,
    load: Option<Load>,
    /// Whether a node is ready at once, as nobody will look at it.
    trusting: bool,
}

/// A map and its nodes, which change together.
#[derive(Debug)]
struct Map {
    topology: Arc<Topology>,
    /// In the order of the map's nodes.
    nodes: Arc<[Node]>,
    residency: Arc<Verdict>,
}

// === impl Router ===

impl Router {
    /// A router over `nodes`, in the order of the map's nodes.
    pub(crate) fn new(
        keyspace: Keyspace,
        topology: Topology,
        nodes: Vec<Node>,
        opener: Opener,
        bound: Arc<Bound>,
    ) -> Self {
        let map = Map::new(&keyspace, topology.into(), nodes.into(), bound);
        Self::over(keyspace, map, opener, false)
    }

    fn over(keyspace: Keyspace, map: Map, opener: Opener, trusting: bool) -> Self {
        let load = opener.load();
        let load = load.map(|options| Load::new(keyspace.shards(), options));
        let inner = Arc::new(Inner {
            load,
            keyspace,
            map: ArcSwap::from_pointee(map),
            reloading: Mutex::new(()),
            opener,
            trusting,
        });
        let gate = Gate::new(ScatterLimits::default(), false);
        Self(inner, Arc::new(gate), Arc::default())
    }

    /// The same router with other bounds for [scatters](Self::scatter), which
    /// its clones share from here on.
    #[must_use]
    pub fn scatter_limits(&self, limits: ScatterLimits) -> Self {
        let gate = Gate::new(limits, false);
        Self(self.0.clone(), Arc::new(gate), self.2.clone())
    }

    /// The same router, under which a [scatter](Self::scatter) is refused: for
    /// paths that must never ask all nodes.
    #[must_use]
    pub fn deny_scatter(&self) -> Self {
        let gate = Gate::new(ScatterLimits::default(), true);
        Self(self.0.clone(), Arc::new(gate), self.2.clone())
    }

    pub(crate) const fn gate(&self) -> &Arc<Gate> {
        &self.1
    }

    /// The map and its nodes, of one epoch, and what stands outside by it.
    pub(crate) fn snapshot(&self) -> (Arc<Topology>, Arc<[Node]>, Arc<Verdict>) {
        let map = self.0.map.load();
        let (topology, nodes) = (map.topology.clone(), map.nodes.clone());
        (topology, nodes, map.residency.clone())
    }

    /// The tables that it was told of.
    pub(crate) fn tables(&self) -> &[Arc<str>] {
        &self.2
    }

    /// The shard of `key`: an id, or text where the keyspace's vindex takes it.
    ///
    /// # Errors
    ///
    /// As [`Keyspace::shard`]; [`ShardError::Residency`] where it may not be asked,
    /// [`ShardError::Frozen`] while it moves to another node,
    /// [`ShardError::NotReady`] while its node was not reached since the start.
    pub fn shard<'k>(&self, key: impl Into<Key<'k>>) -> Result<Shard, ShardError> {
        self.route(key)?.shard()
    }

    /// Where `key` lies, whether or not it can be reached there now.
    ///
    /// # Errors
    ///
    /// As [`Keyspace::shard`].
    pub fn route<'k>(&self, key: impl Into<Key<'k>>) -> Result<Route, ShardError> {
        let key = key.into();
        let map = self.0.map.load();
        let route = Route::of(&self.0.keyspace, &map, key, &self.2)?;
        if let Some(load) = &self.0.load {
            load.note(route.virtual_shard(), key);
        }
        Ok(route)
    }

    /// What each virtual shard is asked, and the hottest keys; `None` unless
    /// [`Telemetry::load`](crate::telemetry::Telemetry::load) asked for it.
    pub fn load(&self) -> Option<Load> {
        self.0.load.clone()
    }

    /// Where `key` lies and why, for a person to read.
    ///
    /// # Errors
    ///
    /// As [`Keyspace::shard`].
    pub fn explain<'k>(&self, key: impl Into<Key<'k>>) -> Result<Explanation, ShardError> {
        let map = self.0.map.load();
        Explanation::of(&self.0.keyspace, &map, key.into(), &self.2)
    }

    /// The shard in the directory of `value`: where what is looked up by it lies.
    ///
    /// # Errors
    ///
    /// As [`virtual_shard`](Self::virtual_shard).
    pub fn directory(&self, value: &[u8]) -> Result<Shard, ShardError> {
        self.virtual_shard(VirtualShard::new(sha256(value, self.shards())))
    }

    /// The shard numbered `shard`.
    ///
    /// # Errors
    ///
    /// Returns [`ShardError::OutOfRange`], [`ShardError::Residency`],
    /// [`ShardError::Frozen`] or [`ShardError::NotReady`].
    pub fn virtual_shard(&self, shard: VirtualShard) -> Result<Shard, ShardError> {
        self.0.map.load().shard(shard, &self.2)
    }

    /// The number of virtual shards.
    pub fn shards(&self) -> u32 {
        self.0.keyspace.shards()
    }

    /// The tag that ids must carry.
    pub fn keyspace(&self) -> KeyspaceTag {
        self.0.keyspace.tag()
    }

    pub(crate) fn whole_keyspace(&self) -> &Keyspace {
        &self.0.keyspace
    }

    /// The map, as it is now.
    pub fn topology(&self) -> Arc<Topology> {
        self.0.map.load().topology.clone()
    }

    /// All nodes, as they are now.
    pub fn nodes(&self) -> Arc<[Node]> {
        self.0.map.load().nodes.clone()
    }
}

// === impl Map ===

impl Map {
    /// The map with what follows from the pins, of which the log is told.
    fn new(
        keyspace: &Keyspace,
        topology: Arc<Topology>,
        nodes: Arc<[Node]>,
        bound: Arc<Bound>,
    ) -> Self {
        let stands: Vec<Stand> = nodes.iter().map(Node::stand).collect();
        let residency = Verdict::new(bound, keyspace, &topology, stands);
        residency.warn(&topology);
        Self {
            topology,
            nodes,
            residency: Arc::new(residency),
        }
    }
}
