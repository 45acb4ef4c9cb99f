//! Opening all databases at the start: names, map, migrations, identity.
//!
//! ```text
//!  catalog: wait for it ─ migrate ─ remember or compare names and map
//!  each node, side by side: connect ─ migrate ─ recognise ─ ready
//! ```
//!
//! The first start writes names, map and cluster id into the catalog, and the
//! cluster id and its own name into each node. Every later start compares, so a
//! list that changed, or two entries swapped, is refused before any query. A
//! node that is down at the start is tried again in the background; its keys
//! are refused until it is ready.

mod catalog;
mod home;
mod identity;
mod ready;
mod schema;
mod spec;

use std::time::Duration;

use maxscale_core::Chain;
use maxscale_core::id::KeyspaceTag;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::database::{Database, DatabaseOptions};
use crate::error::ShardError;
use crate::migrate::{self, MigrationSet};
use crate::router::Router;
use crate::topology::{NodeId, Topology, TopologyError};

pub use spec::{NodeSpec, SpecError};

use catalog::Membership;

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
    migrate: Migrate,
    wait: Duration,
    options: DatabaseOptions,
    node_sets: Vec<MigrationSet>,
    catalog_sets: Vec<MigrationSet>,
}

/// All databases of a service, open. Dropping it ends the tries for nodes that are down.
#[derive(Debug)]
pub struct Fleet {
    router: Router,
    catalog: Database,
    // Held so that dropping the fleet aborts what still tries to reach a node.
    _late: JoinSet<()>,
}

/// A fleet that could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FleetError {
    /// The catalog did not answer in time.
    #[error("the catalog was not reachable within {waited:?}")]
    NoCatalog {
        /// How long it was tried.
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

    /// The number of virtual shards is not the one the fleet was created with.
    #[error("the keyspace has {stored} virtual shards for ever, {configured} are configured")]
    OtherCount {
        /// The number of the first start.
        stored: u64,
        /// The number now.
        configured: u32,
    },

    /// A database belongs to another node or another fleet.
    #[error("the database of {expected} says that it is {found}")]
    WrongNode {
        /// The node it is listed as.
        expected: NodeId,
        /// What its own row says.
        found: String,
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
    pub const DEFAULT_SHARDS: u32 = 1024;
    /// How long the start waits for databases.
    pub const DEFAULT_WAIT: Duration = Duration::from_secs(30);

    /// A fleet of `nodes`. The one listed first at the first start also holds
    /// the catalog, wherever it is listed later.
    pub fn new(nodes: Vec<NodeSpec>) -> Self {
        Self {
            nodes,
            catalog: None,
            shards: Self::DEFAULT_SHARDS,
            migrate: Migrate::Auto,
            wait: Self::DEFAULT_WAIT,
            options: DatabaseOptions::default(),
            node_sets: vec![schema::NODE],
            catalog_sets: vec![schema::CATALOG],
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
    /// Opens every database; ready when the catalog and one node are.
    ///
    /// # Errors
    ///
    /// Returns [`FleetError`] when the catalog or every node stays away for
    /// the configured time, or when what they hold is not this fleet.
    pub async fn open(config: FleetConfig) -> Result<Self, FleetError> {
        let start = Instant::now();
        let ids: Vec<NodeId> = config.nodes.iter().map(|node| node.id.clone()).collect();
        let wanted = Topology::even(ids, config.shards)?;
        check_urls(&config.nodes)?;
        let mut databases = Vec::new();
        for node in &config.nodes {
            databases.push(Database::open(
                node.id.shared(),
                &node.url,
                &config.options,
            )?);
        }
        let (catalog, admin) = match config.catalog.as_deref() {
            Some(url) => open_catalog(&config, url, url)?,
            None => {
                let home = &config.nodes[home::find(&databases, &config, start).await?];
                open_catalog(&config, &home.url, home.direct_url())?
            }
        };

        wait_for(&admin, start, config.wait).await?;
        migrate(&admin, &config.catalog_sets, config.migrate).await?;
        let (cluster, topology) = Membership::remember(&catalog, &wanted).await?;

        // The catalog lists nodes in the order of their first listing.
        let place = |id: &NodeId| config.nodes.iter().position(|node| node.id == *id);
        let order: Vec<usize> = topology.nodes().iter().filter_map(place).collect();
        let ordered = order.iter().map(|at| databases[*at].clone()).collect();
        let router = Router::new(KeyspaceTag::default(), topology, ordered);
        let late = ready::ready(&router, &config, &order, cluster, start).await?;
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
    pub const fn catalog(&self) -> &Database {
        &self.catalog
    }

    /// Stores `value` under `name` in the catalog unless something is stored
    /// there; gives what is stored.
    ///
    /// # Errors
    ///
    /// Returns [`ShardError`] when the catalog cannot be asked.
    pub async fn remember(&self, name: &str, value: &[u8]) -> Result<Vec<u8>, ShardError> {
        catalog::remember(&self.catalog, name, value).await
    }

    /// What is stored under `name` in the catalog.
    ///
    /// # Errors
    ///
    /// Returns [`ShardError`] when the catalog cannot be asked.
    pub async fn recall(&self, name: &str) -> Result<Option<Vec<u8>>, ShardError> {
        catalog::recall(&self.catalog, name).await
    }

    /// Closes every connection.
    pub async fn close(self) {
        self.catalog.close().await;
        for node in self.router.nodes() {
            node.database().close().await;
        }
    }
}

/// Two nodes in one database would write over each other's name at the first start.
fn check_urls(nodes: &[NodeSpec]) -> Result<(), FleetError> {
    for (at, node) in nodes.iter().enumerate() {
        if let Some(same) = nodes[..at].iter().find(|other| other.url == node.url) {
            return Err(FleetError::WrongNode {
                expected: node.id.clone(),
                found: same.id.to_string(),
            });
        }
    }
    Ok(())
}

/// The catalog for statements, and for migrations if that is another URL.
fn open_catalog(
    config: &FleetConfig,
    url: &str,
    direct: &str,
) -> Result<(Database, Database), ShardError> {
    let open = |url: &str| Database::open("catalog", url, &config.options);
    let catalog = open(url)?;
    let admin = if url == direct {
        catalog.clone()
    } else {
        open(direct)?
    };
    Ok((catalog, admin))
}

async fn wait_for(catalog: &Database, start: Instant, wait: Duration) -> Result<(), FleetError> {
    loop {
        match catalog.reach().await {
            Ok(()) => return Ok(()),
            Err(source) if source.is_unreachable() && start.elapsed() < wait => {
                tracing::info!(error = %Chain(&source), "waiting for the catalog");
                sleep(PAUSE).await;
            }
            Err(source) if source.is_unreachable() => {
                return Err(FleetError::NoCatalog {
                    waited: wait,
                    source,
                });
            }
            Err(source) => return Err(source.into()),
        }
    }
}

const PAUSE: Duration = Duration::from_millis(500);

async fn migrate(
    database: &Database,
    sets: &[MigrationSet],
    mode: Migrate,
) -> Result<(), FleetError> {
    match mode {
        Migrate::Auto => {
            migrate::apply(database, sets).await?;
        }
        Migrate::Check => {
            let pending = migrate::check(database, sets).await?;
            if !pending.is_empty() {
                return Err(FleetError::Pending {
                    database: database.name().to_owned(),
                    pending: pending.join(", "),
                });
            }
        }
        Migrate::Off => {}
    }
    Ok(())
}
