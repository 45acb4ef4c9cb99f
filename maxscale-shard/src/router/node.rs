use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::database::{Database, DatabaseOptions};
use crate::error::ShardError;
use crate::topology::NodeId;

/// A node: its name and its database. Cheap to clone; it stays usable when a
/// later map no longer lists it.
#[derive(Clone)]
pub struct Node(Arc<Inner>);

struct Inner {
    id: NodeId,
    url: String,
    database: Database,
    ready: AtomicBool,
}

// === impl Node ===

impl Node {
    /// The node called `id` at `url`. Connects to nothing yet.
    pub(crate) fn open(
        id: NodeId,
        url: &str,
        options: &DatabaseOptions,
    ) -> Result<Self, ShardError> {
        let database = Database::open(id.shared(), url, options)?;
        Ok(Self::new(id, url, database))
    }

    /// The node called `id` behind `database`, which was opened by `url`.
    pub(crate) fn new(id: NodeId, url: &str, database: Database) -> Self {
        Self(Arc::new(Inner {
            id,
            url: url.to_owned(),
            database,
            ready: AtomicBool::new(false),
        }))
    }

    /// The node's name.
    pub fn id(&self) -> &NodeId {
        &self.0.id
    }

    /// The node's database, for statements that serve the whole node.
    pub fn database(&self) -> &Database {
        &self.0.database
    }

    /// Whether the node was reached, migrated and recognised since the start.
    pub fn is_ready(&self) -> bool {
        self.0.ready.load(Ordering::Acquire)
    }

    pub(crate) fn set_ready(&self) {
        self.0.ready.store(true, Ordering::Release);
    }

    /// Whether it was opened by `url`.
    pub(super) fn is_at(&self, url: &str) -> bool {
        self.0.url == url
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
