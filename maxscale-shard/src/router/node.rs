use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use maxscale_core::fact::RegionId;

use crate::database::{Announcements, Database, Opener};
use crate::engine::capabilities::Capabilities;
use crate::error::ShardError;
use crate::fleet::{EndpointSpec, NodeSpec};
use crate::residency::Stand;
use crate::topology::NodeId;

/// A node: its name and its servers. Cheap to clone; it stays usable when a
/// later map no longer lists it.
#[derive(Clone)]
pub struct Node(Arc<Inner>);

pub(super) struct Inner {
    pub(super) id: NodeId,
    pub(super) endpoints: Vec<Endpoint>,
    /// The place of the primary, as far as is known.
    pub(super) primary: AtomicUsize,
    ready: AtomicBool,
    /// Where this process stands, if somebody said so.
    #[cfg(feature = "postgres")]
    here: Option<RegionId>,
    #[cfg(feature = "postgres")]
    pub(super) watch: super::watch::Watch,
}

/// One server of a node, its primary or a replica of it.
#[derive(Clone)]
pub struct Endpoint {
    spec: EndpointSpec,
    database: Database,
    /// Past a pooler, if there is a way.
    direct: Option<Database>,
}

/// What a server is for its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Role {
    /// The one that takes writes, as far as is known.
    Primary,
    /// A copy in the primary's region, or where nobody said what stands where.
    Replica,
    /// A copy in another region.
    GeoReplica,
}

// === impl Node ===

impl Node {
    /// The node that `spec` describes. Connects to nothing yet, and takes over
    /// from `old` what leads to the same servers.
    pub(crate) fn open(
        spec: &NodeSpec,
        opener: &Opener,
        old: Option<&Self>,
    ) -> Result<Self, ShardError> {
        let mut endpoints = Vec::with_capacity(spec.endpoints.len());
        for (at, endpoint) in (1..).zip(&spec.endpoints) {
            let known = old.and_then(|old| old.endpoints().iter().find(|o| o.spec == *endpoint));
            endpoints.push(match known {
                Some(known) => known.clone(),
                None => Endpoint::open(&spec.id, at, endpoint, opener)?,
            });
        }
        // What was found out of the servers holds for another list of them.
        let primary = old.and_then(|old| {
            let primary = &old.0.endpoints[old.0.primary.load(Ordering::Acquire)];
            endpoints.iter().position(|e| e.spec == primary.spec)
        });
        #[cfg(feature = "postgres")]
        let known = super::primary::Known {
            primary: primary.unwrap_or(0),
            ..(old.filter(|_| primary.is_some()))
                .map(|old| old.0.watch.known())
                .unwrap_or_default()
        };
        let primary = primary.unwrap_or(0);
        Ok(Self(Arc::new(Inner {
            id: spec.id.clone(),
            #[cfg(feature = "postgres")]
            watch: super::watch::Watch::of(&endpoints, known),
            endpoints,
            primary: AtomicUsize::new(primary),
            ready: AtomicBool::new(false),
            #[cfg(feature = "postgres")]
            here: opener.here().cloned(),
        })))
    }

    /// The node's name.
    pub fn id(&self) -> &NodeId {
        &self.0.id
    }

    /// Its servers, in the order of their listing.
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.0.endpoints
    }

    /// Where its servers stand.
    pub(super) fn stand(&self) -> Stand {
        let regions = self.endpoints().iter().map(Endpoint::region);
        regions.map(Option::<&RegionId>::cloned).collect()
    }

    /// The server that takes writes, as far as is known.
    ///
    /// A promotion is followed while the node is used: its servers are asked every
    /// second ([`DatabaseOptions::check_every`](crate::DatabaseOptions::check_every))
    /// which of them takes writes. None is ever promoted.
    pub fn primary(&self) -> &Endpoint {
        #[cfg(feature = "postgres")]
        if self.0.endpoints.len() > 1 {
            self.0.watch.touch(|| Arc::downgrade(&self.0));
        }
        &self.0.endpoints[self.0.primary.load(Ordering::Acquire)]
    }

    #[cfg(feature = "postgres")]
    pub(super) fn primary_place(&self) -> usize {
        self.0.primary.load(Ordering::Acquire)
    }

    /// How fresh its servers are.
    #[cfg(feature = "postgres")]
    pub(super) fn fresh(&self) -> std::sync::MutexGuard<'_, super::fresh::Fresh> {
        self.0.watch.fresh()
    }

    /// How far `endpoint` is from where this process stands.
    #[cfg(feature = "postgres")]
    pub(super) fn distance(&self, endpoint: &Endpoint) -> u8 {
        match (&self.0.here, endpoint.region()) {
            (Some(here), Some(there)) if here == there => 0,
            (Some(_), Some(_)) => 2,
            _ => 1,
        }
    }

    /// What `endpoint`, which is one of this node's, is for it now.
    pub fn role(&self, endpoint: &Endpoint) -> Role {
        let primary = self.primary();
        if primary.spec == endpoint.spec {
            return Role::Primary;
        }
        match (primary.region(), endpoint.region()) {
            (Some(home), Some(region)) if home != region => Role::GeoReplica,
            _ => Role::Replica,
        }
    }

    /// The primary's database, for statements that serve the whole node.
    pub fn database(&self) -> &Database {
        self.primary().database()
    }

    /// The primary's database for background work, whose connections are counted
    /// apart from those of requests.
    pub fn background(&self) -> Database {
        self.database().background()
    }

    /// Whether the node was reached, migrated and recognised since the start.
    pub fn is_ready(&self) -> bool {
        self.0.ready.load(Ordering::Acquire)
    }

    pub(crate) fn set_ready(&self) {
        self.0.ready.store(true, Ordering::Release);
    }

    /// Whether it is what `spec` describes.
    pub(super) fn is(&self, spec: &NodeSpec) -> bool {
        let own = self.0.endpoints.iter().map(|endpoint| &endpoint.spec);
        own.eq(&spec.endpoints)
    }

    pub(crate) async fn close(&self) {
        for endpoint in self.endpoints() {
            endpoint.database.close().await;
            if let Some(direct) = &endpoint.direct {
                direct.close().await;
            }
        }
    }
}

// === impl Endpoint ===

impl Endpoint {
    fn open(
        node: &NodeId,
        at: usize,
        spec: &EndpointSpec,
        opener: &Opener,
    ) -> Result<Self, ShardError> {
        let name = match at {
            1 => node.shared(),
            _ => format!("{node}#{at}").into(),
        };
        let direct = (spec.direct()).map(|url| opener.unmeasured().open(name.clone(), url));
        Ok(Self {
            spec: spec.clone(),
            database: opener.open(name, &spec.way())?,
            direct: direct.transpose()?,
        })
    }

    /// The server's database. The first of a node bears the node's name in
    /// errors, a later one its place behind it, as in `eu-1#2`.
    pub const fn database(&self) -> &Database {
        &self.database
    }

    /// The way past a pooler, if there is one besides.
    pub(crate) const fn direct(&self) -> Option<&Database> {
        self.direct.as_ref()
    }

    /// Refuses writes from now on, or takes them, on all ways to the server.
    #[cfg(feature = "postgres")]
    pub(super) fn refuse_writes(&self, why: Option<super::WritesRefused>) {
        for way in self.ways() {
            way.refuse_writes(why);
        }
    }

    /// Lets those write who waited for a look, unless there is another reason not to.
    #[cfg(feature = "postgres")]
    pub(super) fn was_seen(&self) {
        for way in self.ways() {
            if way.health().writes_refused() == Some(super::WritesRefused::Unseen) {
                way.refuse_writes(None);
            }
        }
    }

    #[cfg(feature = "postgres")]
    fn ways(&self) -> impl Iterator<Item = &Database> {
        std::iter::once(&self.database).chain(&self.direct)
    }

    /// What the server can do, for whoever takes the way past a pooler if there is one.
    ///
    /// # Errors
    ///
    /// As [`Database::capabilities`].
    pub async fn capabilities(&self) -> Result<Capabilities, ShardError> {
        let way = self.direct.as_ref().unwrap_or(&self.database);
        way.capabilities().await
    }

    /// What the server announces on `channel` (`NOTIFY`) from now on. None where nothing
    /// is: a file has no channels, and a pooler in transaction mode hands none through
    /// unless there is a way past it.
    ///
    /// # Errors
    ///
    /// Returns [`ShardError`] when no connection can be had for it.
    pub async fn announcements(&self, channel: &str) -> Result<Option<Announcements>, ShardError> {
        let way = self.direct.as_ref().unwrap_or(&self.database);
        way.announcements(channel).await
    }

    /// Where it stands, if somebody said so.
    pub const fn region(&self) -> Option<&RegionId> {
        self.spec.region.as_ref()
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL may carry a password.
        f.debug_struct("Node")
            .field("id", &self.0.id)
            .field("ready", &self.is_ready())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // URLs may carry passwords.
        f.debug_struct("Endpoint")
            .field("name", &self.database.name())
            .field("region", &self.spec.region)
            .finish_non_exhaustive()
    }
}
