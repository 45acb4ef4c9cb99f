//! Opening all databases at the start: names, map, migrations, identity.
//!
//! ```text
//!  catalog: find it, or see that all is fresh ─ migrate ─ remember or compare names and map
//!  each node, side by side: connect ─ migrate ─ recognise ─ ready
//! ```
//!
//! The first start needs every node. It writes names, map and cluster id into
//! the catalog, and the cluster id and its own name into each node. Every later
//! start compares, so a list that changed, or two entries swapped, is refused
//! before any query. A node that is down at a later start is tried again in the
//! background; its keys are refused until it is ready.

mod catalog;
mod home;
mod identity;
mod limits;
mod patience;
mod ready;
mod schema;
mod spec;
mod ways;

use std::time::Duration;

use maxscale_core::Chain;
use maxscale_core::id::KeyspaceTag;
use tokio::task::JoinSet;
use tokio::time::Instant;
use uuid::Uuid;

use crate::database::{Database, DatabaseOptions, Opener};
use crate::error::ShardError;
use crate::keyspace::{Keyspace, KeyspaceError};
use crate::migrate::MigrationSet;
use crate::router::{Node, Router};
use crate::topology::{NodeId, Topology, TopologyError};
use crate::vindex::Vindex;

pub(crate) use spec::EndpointSpec;
pub use spec::{NodeSpec, SpecError};

use catalog::Membership;
use patience::Patience;
use ways::{Mark, Ways};

/// What to do about pending migrations at the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Migrate {
    /// Run them.
    #[default]
    Auto,
    /// Refuse to start while there are any.
    Check,
    /// Do not look.
    Off,
}

/// Which databases make up a fleet, and how they are opened.
#[derive(Clone)]
#[must_use]
pub struct FleetConfig {
    nodes: Vec<NodeSpec>,
    catalog: Option<String>,
    shards: u32,
    tag: KeyspaceTag,
    vindex: Vindex,
    migrate: Migrate,
    wait: Duration,
    options: DatabaseOptions,
    node_sets: Vec<MigrationSet>,
}

/// All databases of a service, open. Dropping it ends the tries for nodes that are down.
#[derive(Debug)]
pub struct Fleet {
    router: Router,
    /// What holds the catalog: a node, or a database of its own.
    catalog: Node,
    // Held so that dropping the fleet aborts what still tries to reach a node.
    _late: JoinSet<()>,
}

/// A fleet that could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FleetError {
    /// The catalog did not answer in time, or was too busy.
    #[error("the catalog was not reachable within {waited:?}")]
    NoCatalog {
        /// How long it was tried.
        waited: Duration,
        /// The last error.
        #[source]
        source: ShardError,
    },

    /// No catalog was found, and one is made only once every node has said that
    /// it belongs to no fleet: one that is away may hold the catalog.
    #[error(
        "no catalog was found, and a first start needs every node; \
         no answer within {waited:?} from {}",
        names(missing)
    )]
    FirstStart {
        /// The nodes that did not answer.
        missing: Vec<NodeId>,
        /// How long they were tried.
        waited: Duration,
        /// The last error.
        #[source]
        source: ShardError,
    },

    /// No node answered in time.
    #[error("no node was reachable within {waited:?}")]
    NoNode {
        /// How long they were tried.
        waited: Duration,
        /// The last error.
        #[source]
        source: Option<ShardError>,
    },

    /// The list of nodes is not the one the fleet was created with.
    #[error("the list of nodes differs from the stored one: {0}")]
    Differs(String),

    /// A database belongs to another node or another fleet.
    #[error("the database of {expected} says that it is {found}")]
    WrongNode {
        /// The node it is listed as.
        expected: NodeId,
        /// What its own row says.
        found: String,
    },

    /// The two URLs of a node lead to two databases.
    #[error("the direct URL of {node} leads to another database than its first URL")]
    OtherDirect {
        /// The node.
        node: NodeId,
    },

    /// There are migrations to run, and `check` forbids to run them.
    #[error("{database} has pending migrations: {pending}")]
    Pending {
        /// The database.
        database: String,
        /// Their names.
        pending: String,
    },

    /// The list makes no map.
    #[error(transparent)]
    Topology(#[from] TopologyError),

    /// The keyspace cannot be, or is not the one that the fleet was created with.
    #[error(transparent)]
    Keyspace(#[from] KeyspaceError),

    /// A database refused.
    #[error(transparent)]
    Shard(#[from] ShardError),
}

// === impl FleetConfig ===

impl std::fmt::Debug for FleetConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The catalog's URL may carry a password.
        f.debug_struct("FleetConfig")
            .field("nodes", &self.nodes)
            .field("shards", &self.shards)
            .field("migrate", &self.migrate)
            .field("wait", &self.wait)
            .finish_non_exhaustive()
    }
}

impl FleetConfig {
    /// The number of virtual shards unless chosen otherwise at creation.
    pub const DEFAULT_SHARDS: u32 = Keyspace::DEFAULT_SHARDS;
    /// How long the start waits for databases.
    pub const DEFAULT_WAIT: Duration = Duration::from_secs(30);

    /// A fleet of `nodes`. The one listed first at the first start also holds
    /// the catalog, wherever it is listed later.
    pub fn new(nodes: Vec<NodeSpec>) -> Self {
        Self {
            nodes,
            catalog: None,
            shards: Self::DEFAULT_SHARDS,
            tag: KeyspaceTag::default(),
            vindex: Vindex::Id,
            migrate: Migrate::Auto,
            wait: Self::DEFAULT_WAIT,
            options: DatabaseOptions::default(),
            node_sets: vec![schema::NODE],
        }
    }

    /// Puts the catalog into a database of its own. Default: the node that was
    /// listed first at the first start.
    pub fn catalog(mut self, url: impl Into<String>) -> Self {
        self.catalog = Some(url.into());
        self
    }

    /// Sets the number of virtual shards, for ever. Default: [`FleetConfig::DEFAULT_SHARDS`].
    pub const fn shards(mut self, shards: u32) -> Self {
        self.shards = shards;
        self
    }

    /// Sets where keys that are text lie, for ever. Default: [`Vindex::Id`], so
    /// that every key is an id.
    pub fn vindex(mut self, vindex: Vindex) -> Self {
        self.vindex = vindex;
        self
    }

    /// Sets the tag that ids carry, for ever. Default: 0.
    pub const fn tag(mut self, tag: KeyspaceTag) -> Self {
        self.tag = tag;
        self
    }

    /// Sets what to do about pending migrations. Default: [`Migrate::Auto`].
    pub const fn migrate(mut self, migrate: Migrate) -> Self {
        self.migrate = migrate;
        self
    }

    /// Sets how long to wait for databases. Default: [`FleetConfig::DEFAULT_WAIT`].
    pub const fn wait(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    /// Sets how each database is connected to.
    pub const fn options(mut self, options: DatabaseOptions) -> Self {
        self.options = options;
        self
    }

    /// Adds tables that every node has.
    pub fn migrations(mut self, set: MigrationSet) -> Self {
        self.node_sets.push(set);
        self
    }
}

// === impl Fleet ===

impl Fleet {
    /// Opens every database; ready when the catalog and one node are. A first
    /// start waits for every node.
    ///
    /// # Errors
    ///
    /// Returns [`FleetError`] when the catalog or every node stays away for the
    /// configured time, at a first start any node, or when what they hold is not
    /// this fleet.
    pub async fn open(config: FleetConfig) -> Result<Self, FleetError> {
        let start = Instant::now();
        let ids: Vec<NodeId> = config.nodes.iter().map(|node| node.id.clone()).collect();
        let wanted = Topology::even(ids, config.shards)?;
        let keyspace = Keyspace::new(config.tag, config.shards, config.vindex.clone())?;
        check_urls(&config.nodes)?;
        let opener = Opener::new(config.options);
        let mut nodes = Vec::with_capacity(config.nodes.len());
        for spec in &config.nodes {
            nodes.push(Node::open(spec, &opener, None)?);
        }
        let apart = config.catalog.as_deref();
        let apart = apart.map(|url| home::apart(url, &opener)).transpose()?;
        let home = home::find(&nodes, apart.as_ref(), &config, start).await?;
        let catalog = apart.unwrap_or_else(|| nodes[home].clone());

        let mut patience = Patience::until(start + config.wait);
        let (cluster, topology) = loop {
            match settle(&config, &catalog, &keyspace, &wanted).await {
                Err(FleetError::Shard(source)) if source.may_pass() => {
                    tracing::info!(error = %Chain(&source), "waiting for the catalog");
                    if !patience.pause().await {
                        let waited = config.wait;
                        return Err(FleetError::NoCatalog { waited, source });
                    }
                }
                settled => break settled?,
            }
        };

        // The catalog lists nodes in the order of their first listing.
        let place = |id: &NodeId| config.nodes.iter().position(|node| node.id == *id);
        let order = topology.nodes().iter().filter_map(place);
        let ordered = order.map(|at| nodes[at].clone()).collect();
        let router = Router::new(keyspace, topology, ordered, opener);
        let late = ready::ready(&router, &config, cluster, start).await?;
        Ok(Self {
            router,
            catalog,
            _late: late,
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

    /// Stores `value` under `name` in the catalog unless something is stored
    /// there; gives what is stored.
    ///
    /// # Errors
    ///
    /// Returns [`ShardError`] when the catalog cannot be asked.
    pub async fn remember(&self, name: &str, value: &[u8]) -> Result<Vec<u8>, ShardError> {
        catalog::remember(&self.catalog(), name, value).await
    }

    /// What is stored under `name` in the catalog.
    ///
    /// # Errors
    ///
    /// Returns [`ShardError`] when the catalog cannot be asked.
    pub async fn recall(&self, name: &str) -> Result<Option<Vec<u8>>, ShardError> {
        catalog::recall(&self.catalog(), name).await
    }

    /// Closes every connection.
    pub async fn close(self) {
        self.catalog.close().await;
        for node in self.router.nodes().iter() {
            node.close().await;
        }
    }
}

fn names(nodes: &[NodeId]) -> String {
    let names: Vec<&str> = nodes.iter().map(NodeId::as_str).collect();
    names.join(", ")
}

/// Two nodes in one database would write over each other's name at the first start.
fn check_urls(nodes: &[NodeSpec]) -> Result<(), FleetError> {
    for (at, node) in nodes.iter().enumerate() {
        let same = |other: &&NodeSpec| other.urls().any(|url| node.urls().any(|own| own == url));
        if let Some(same) = nodes[..at].iter().find(same) {
            return Err(FleetError::WrongNode {
                expected: node.id.clone(),
                found: same.id.to_string(),
            });
        }
    }
    Ok(())
}

/// Migrates the catalog; gives what it remembers.
async fn settle(
    config: &FleetConfig,
    catalog: &Node,
    keyspace: &Keyspace,
    wanted: &Topology,
) -> Result<(Uuid, Topology), FleetError> {
    let catalog = Ways::to(catalog).called("catalog");
    let sets = &[schema::CATALOG];
    catalog.migrate(sets, config.migrate, Mark::CATALOG).await?;
    let remembered = Membership::remember(&catalog.database, keyspace, wanted).await?;
    catalog.lead_to_one(Mark::CATALOG).await?;
    Ok(remembered)
}
