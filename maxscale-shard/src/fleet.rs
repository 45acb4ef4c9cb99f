//! All databases of a service: names, map, migrations, identity.
//!
//! ```text
//!  catalog: find it, or see that all is fresh ─ migrate ─ remember or compare names and map
//!  each node, side by side: connect ─ migrate ─ recognise ─ ready
//!  from then on: follow the catalog's map ─ swap it into the router ─ keep a copy on disk
//! ```
//!
//! The first start needs every node. It writes names, map and cluster id into
//! the catalog, and the cluster id and its own name into each node. Every later
//! start compares, so a list that changed, or two entries swapped, is refused
//! before any query. A node that is down at a later start is tried again in the
//! background; its keys are refused until it is ready.
//!
//! The map changes by compare-and-set on its epoch ([`Fleet::change`]). While the
//! catalog is away every router goes on with the map it has, and a start goes on
//! from the copy on disk. An older map than the one in use is refused and reported.

mod catalog;
mod change;
mod config;
mod copy;
mod drift;
mod error;
mod follow;
mod home;
mod identity;
mod keep;
mod limits;
mod memory;
mod patience;
mod ready;
mod rollout;
mod schema;
mod settle;
mod spec;
mod status;
mod ways;

use std::sync::Arc;

use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::database::{Database, Opener};
use crate::error::ShardError;
use crate::router::{Node, Router};

pub use change::ChangeError;
pub use config::{FleetConfig, Migrate};
pub use drift::{Change, Drift, DriftReport, Part};
pub use error::FleetError;
pub use rollout::{
    DoneStep, NodeRollout, Plan, PlannedNode, PlannedStep, Rollout, RolloutError, Waves,
};
pub(crate) use schema::SHADOW;
pub(crate) use spec::EndpointSpec;
pub use spec::{NodeSpec, SpecError};
pub use status::{MapProblem, MapStatus};

use error::names;
use follow::Follower;
use keep::Keeper;
use memory::Remembered;
use settle::Charter;

/// All databases of a service, open. Dropping it ends the tries for nodes that
/// are down, and what follows the catalog's map.
#[derive(Debug)]
pub struct Fleet {
    router: Router,
    charter: Charter,
    /// What holds the catalog: a node, or a database of its own.
    catalog: Node,
    /// Rung when this process changed the map.
    hint: Arc<Notify>,
    keeper: Keeper,
    memory: Remembered,
    status: watch::Receiver<MapStatus>,
    // Held so that dropping the fleet aborts it.
    _follower: JoinSet<()>,
}

// === impl Fleet ===

impl Fleet {
    /// Opens every database; ready when the catalog and one node are. A first
    /// start waits for every node. With a [copy](FleetConfig::map_copy) of the map
    /// the catalog is not waited for.
    ///
    /// # Errors
    ///
    /// Returns [`FleetError`] when the catalog or every node stays away for the
    /// configured time, at a first start any node, or when what they hold is not
    /// this fleet.
    pub async fn open(config: FleetConfig) -> Result<Self, FleetError> {
        let start = Instant::now();
        let charter = Charter::of(config)?;
        let config = &charter.config;
        let opener = Opener::new(config.options).standing(config.region.clone());
        let opener = opener.telling(&config.telemetry);
        let mut nodes = Vec::new();
        for spec in charter.specs() {
            nodes.push(Node::open(spec, &opener, None)?);
        }
        let found = charter.find(&nodes, &opener, start).await?;
        let order = found.topology.nodes().iter();
        let named = |id| nodes.iter().find(|node| node.id() == id).cloned();
        let ordered = order.filter_map(named).collect();
        let keyspace = charter.keyspace.clone();
        let bound = charter.bound.clone();
        let router = Router::new(keyspace, found.topology, ordered, opener, bound);
        let late = ready::ready(&router, &charter.config, found.cluster, start).await?;
        let hint = Arc::new(Notify::new());
        let memory = Remembered::new(found.memory, hint.clone());
        let owned = (&found.catalog, found.cluster);
        let keeper = Keeper::new(router.clone(), charter.clone(), owned, memory.clone());
        let (follower, status) = Follower::new(
            router.clone(),
            charter.clone(),
            (found.catalog.clone(), found.cluster),
            (hint.clone(), keeper.clone()),
            found.problem,
        );
        let mut following = JoinSet::new();
        following.spawn(follower.run(late));
        Ok(Self {
            router,
            charter,
            catalog: found.catalog,
            hint,
            keeper,
            memory,
            status,
            _follower: following,
        })
    }

    /// The router over the fleet's nodes.
    pub const fn router(&self) -> &Router {
        &self.router
    }

    /// The catalog's database.
    pub fn catalog(&self) -> Database {
        self.catalog.database().called("catalog")
    }

    /// What is known of the map: its epoch, and whether the catalog agrees.
    pub fn map_status(&self) -> MapStatus {
        self.status.borrow().clone()
    }

    /// What is known of the map, as it changes.
    pub fn watch_map(&self) -> watch::Receiver<MapStatus> {
        self.status.clone()
    }

    /// Stores `value` under `name` in the catalog unless something is stored
    /// there, for ever; gives what is stored. What is known already, also from a
    /// [copy](FleetConfig::map_copy), is not asked for again.
    ///
    /// # Errors
    ///
    /// Returns [`ShardError`] when the catalog has to be asked and cannot.
    pub async fn remember(&self, name: &str, value: &[u8]) -> Result<Vec<u8>, ShardError> {
        self.memory.remember(&self.catalog(), name, value).await
    }

    /// What is stored under `name` in the catalog. What is known already is not
    /// asked for again.
    ///
    /// # Errors
    ///
    /// Returns [`ShardError`] when the catalog has to be asked and cannot.
    pub async fn recall(&self, name: &str) -> Result<Option<Vec<u8>>, ShardError> {
        self.memory.recall(&self.catalog(), name).await
    }

    /// Closes every connection.
    pub async fn close(self) {
        self.catalog.close().await;
        for node in self.router.nodes().iter() {
            node.close().await;
        }
    }
}
