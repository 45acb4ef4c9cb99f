use std::path::PathBuf;
use std::time::Duration;

use maxscale_core::fact::RegionId;
use maxscale_core::id::KeyspaceTag;

use super::{NodeSpec, schema};
use crate::database::DatabaseOptions;
use crate::keyspace::Keyspace;
use crate::migrate::MigrationSet;
use crate::residency::Residency;
use crate::telemetry::Telemetry;
use crate::vindex::Vindex;

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
    pub(super) nodes: Vec<NodeSpec>,
    pub(super) catalog: Option<String>,
    pub(super) shards: u32,
    pub(super) tag: KeyspaceTag,
    pub(super) vindex: Vindex,
    pub(super) migrate: Migrate,
    pub(super) wait: Duration,
    pub(super) options: DatabaseOptions,
    pub(super) telemetry: Telemetry,
    pub(super) node_sets: Vec<MigrationSet>,
    pub(super) spares: Vec<NodeSpec>,
    pub(super) region: Option<RegionId>,
    pub(super) copy: Option<PathBuf>,
    pub(super) poll: Duration,
    pub(super) residency: Residency,
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

    /// How often the catalog is asked for a newer map.
    pub const DEFAULT_POLL: Duration = Duration::from_secs(5);

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
            telemetry: Telemetry::new(),
            node_sets: vec![schema::NODE],
            spares: Vec::new(),
            region: None,
            copy: None,
            poll: Self::DEFAULT_POLL,
            residency: Residency::new(),
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

    /// Sets what is measured. Default: nothing.
    pub fn telemetry(mut self, telemetry: Telemetry) -> Self {
        self.telemetry = telemetry;
        self
    }

    /// Adds a node that a later map may list. Until one does, it holds nothing and
    /// is not connected to.
    pub fn spare(mut self, node: NodeSpec) -> Self {
        self.spares.push(node);
        self
    }

    /// Says where this process stands, so that [`ReadPolicy::Nearest`](crate::ReadPolicy)
    /// reads from servers of the same region. Default: nobody knows.
    pub fn region(mut self, region: RegionId) -> Self {
        self.region = Some(region);
        self
    }

    /// Keeps the last good map in a file, so that a start without the catalog
    /// goes on from it. Default: nowhere.
    pub fn map_copy(mut self, path: impl Into<PathBuf>) -> Self {
        self.copy = Some(path.into());
        self
    }

    /// Sets how often the catalog is asked for a newer map, besides what it
    /// announces itself. Default: [`FleetConfig::DEFAULT_POLL`].
    pub const fn poll(mut self, every: Duration) -> Self {
        self.poll = every;
        self
    }

    /// Keeps keys to regions. The first map heeds it; of a later one, what stands
    /// outside is refused, and [`Fleet::change`](crate::Fleet::change) stores none
    /// that puts something outside. Default: everything may be anywhere.
    pub fn residency(mut self, residency: Residency) -> Self {
        self.residency = residency;
        self
    }

    /// Adds tables that every node has.
    pub fn migrations(mut self, set: MigrationSet) -> Self {
        self.node_sets.push(set);
        self
    }
}
