use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use maxscale_core::fact::VirtualShard;
use maxscale_core::id::KeyspaceTag;

use crate::database::Database;
use crate::error::ShardError;
use crate::key::Key;
use crate::keyspace::Keyspace;
use crate::sql::{Row, Statement, Tx};
use crate::topology::{NodeId, Topology};
use crate::vindex::sha256;

/// Finds the node of a key. Cheap to clone; routing costs no I/O and no allocation.
#[derive(Clone, Debug)]
pub struct Router(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    keyspace: Keyspace,
    topology: Topology,
    nodes: Vec<Node>,
}

/// A node: its name and its database.
#[derive(Debug)]
pub struct Node {
    id: NodeId,
    database: Database,
    ready: AtomicBool,
}

/// A virtual shard and the node that holds it.
#[derive(Clone, Copy, Debug)]
pub struct Shard<'r> {
    id: VirtualShard,
    node: &'r Node,
}

// === impl Router ===

impl Router {
    /// A router over `nodes`, in the order of the map's nodes. None is ready yet.
    pub(crate) fn new(keyspace: Keyspace, topology: Topology, databases: Vec<Database>) -> Self {
        let nodes = (topology.nodes().iter().cloned().zip(databases))
            .map(|(id, database)| Node {
                id,
                database,
                ready: AtomicBool::new(false),
            })
            .collect();
        Self(Arc::new(Inner {
            keyspace,
            topology,
            nodes,
        }))
    }

    /// The shard of `key`: an id, or text where the keyspace's vindex takes it.
    ///
    /// # Errors
    ///
    /// As [`Keyspace::shard`], and [`ShardError::NotReady`] while its node was
    /// not reached since the start.
    pub fn shard<'k>(&self, key: impl Into<Key<'k>>) -> Result<Shard<'_>, ShardError> {
        self.virtual_shard(self.0.keyspace.shard(key)?)
    }

    /// The shard in the directory of `value`: where what is looked up by it lies.
    ///
    /// # Errors
    ///
    /// Returns [`ShardError::NotReady`] while the node was not reached since the start.
    pub fn directory(&self, value: &[u8]) -> Result<Shard<'_>, ShardError> {
        self.virtual_shard(VirtualShard::new(sha256(value, self.shards())))
    }

    /// The shard numbered `shard`.
    ///
    /// # Errors
    ///
    /// Returns [`ShardError::OutOfRange`] or [`ShardError::NotReady`].
    pub fn virtual_shard(&self, shard: VirtualShard) -> Result<Shard<'_>, ShardError> {
        let node = (self.0.topology.locate(shard))
            .and_then(|at| self.0.nodes.get(at))
            .ok_or_else(|| ShardError::OutOfRange {
                shard,
                count: self.shards(),
            })?;
        if node.is_ready() {
            Ok(Shard { id: shard, node })
        } else {
            Err(ShardError::NotReady {
                node: node.id.clone(),
            })
        }
    }

    /// The number of virtual shards.
    pub fn shards(&self) -> u32 {
        self.0.topology.shards()
    }

    /// The tag that ids must carry.
    pub fn keyspace(&self) -> KeyspaceTag {
        self.0.keyspace.tag()
    }

    /// The map.
    pub fn topology(&self) -> &Topology {
        &self.0.topology
    }

    /// All nodes.
    pub fn nodes(&self) -> &[Node] {
        &self.0.nodes
    }
}

// === impl Node ===

impl Node {
    /// The node's name.
    pub const fn id(&self) -> &NodeId {
        &self.id
    }

    /// The node's database, for statements that serve the whole node.
    pub const fn database(&self) -> &Database {
        &self.database
    }

    /// Whether the node was reached, migrated and recognised since the start.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    pub(crate) fn set_ready(&self) {
        self.ready.store(true, Ordering::Release);
    }
}

// === impl Shard ===

impl<'r> Shard<'r> {
    /// The virtual shard, for `shard_id` columns.
    pub const fn id(&self) -> VirtualShard {
        self.id
    }

    /// The node that holds it.
    pub const fn node(&self) -> &'r Node {
        self.node
    }

    /// Begins a transaction on this shard.
    ///
    /// # Errors
    ///
    /// As [`Database::begin`].
    pub async fn begin(&self) -> Result<Tx, ShardError> {
        self.node.database.begin_on(Some(self.id)).await
    }

    /// Runs one writing statement, without a transaction around it.
    ///
    /// # Errors
    ///
    /// As [`Database::execute`].
    pub async fn execute(&self, statement: Statement) -> Result<u64, ShardError> {
        self.node.database.execute(statement).await
    }

    /// Reads all rows of one statement.
    ///
    /// # Errors
    ///
    /// As [`Database::fetch_all`].
    pub async fn fetch_all(&self, statement: Statement) -> Result<Vec<Row>, ShardError> {
        self.node.database.fetch_all(statement).await
    }

    /// Reads the first row of one statement, if any.
    ///
    /// # Errors
    ///
    /// As [`Database::fetch_optional`].
    pub async fn fetch_optional(&self, statement: Statement) -> Result<Option<Row>, ShardError> {
        self.node.database.fetch_optional(statement).await
    }
}
