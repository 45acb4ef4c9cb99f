use maxscale_core::fact::VirtualShard;

use super::node::Node;
use crate::error::ShardError;
use crate::sql::{Committed, Row, Statement, Tx, TxOptions, Work};
use crate::topology::{Epoch, SlotState};

/// A virtual shard and the node that holds it, by the map of one epoch.
#[derive(Clone, Debug)]
pub struct Shard {
    pub(super) id: VirtualShard,
    pub(super) node: Node,
    pub(super) epoch: Epoch,
    pub(super) state: SlotState,
}

// === impl Shard ===

impl Shard {
    /// Itself, if statements can be run there now.
    pub(super) fn served(self) -> Result<Self, ShardError> {
        if self.state == SlotState::Frozen {
            return Err(ShardError::Frozen {
                shard: self.id,
                epoch: self.epoch,
            });
        }
        if !self.node.is_ready() {
            return Err(ShardError::NotReady {
                node: self.node.id().clone(),
            });
        }
        Ok(self)
    }

    /// The virtual shard, for `shard_id` columns.
    pub const fn id(&self) -> VirtualShard {
        self.id
    }

    /// The node that holds it.
    pub const fn node(&self) -> &Node {
        &self.node
    }

    /// The epoch of the map that says so.
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// How it is served.
    pub const fn state(&self) -> SlotState {
        self.state
    }

    /// Begins a transaction on this shard.
    ///
    /// # Errors
    ///
    /// As [`Database::begin`](crate::Database::begin).
    pub async fn begin(&self) -> Result<Tx, ShardError> {
        self.node.database().begin_on(Some(self.id)).await
    }

    /// Begins a transaction on this shard, as `options` say.
    ///
    /// # Errors
    ///
    /// As [`Database::begin`](crate::Database::begin).
    pub async fn begin_with(&self, options: &TxOptions) -> Result<Tx, ShardError> {
        let database = self.node.database();
        database.begin_as(Some(self.id), options, false).await
    }

    /// Runs `work` in a transaction on this shard, as
    /// [`Database::write`](crate::Database::write) does: it may run several times.
    ///
    /// # Errors
    ///
    /// As [`Database::write`](crate::Database::write).
    pub async fn write<'w, T, E: From<ShardError>>(
        &self,
        options: TxOptions,
        work: impl for<'t> FnMut(&'t mut Tx) -> Work<'w, 't, T, E>,
    ) -> Result<Committed<T>, E> {
        let database = self.node.database();
        database.run(Some(self.id), options, false, work).await
    }

    /// Runs one writing statement, without a transaction around it.
    ///
    /// # Errors
    ///
    /// As [`Database::execute`](crate::Database::execute).
    pub async fn execute(&self, statement: Statement) -> Result<u64, ShardError> {
        self.node.database().execute(statement).await
    }

    /// Reads all rows of one statement.
    ///
    /// # Errors
    ///
    /// As [`Database::fetch_all`](crate::Database::fetch_all).
    pub async fn fetch_all(&self, statement: Statement) -> Result<Vec<Row>, ShardError> {
        self.node.database().fetch_all(statement).await
    }

    /// Reads the first row of one statement, if any.
    ///
    /// # Errors
    ///
    /// As [`Database::fetch_optional`](crate::Database::fetch_optional).
    pub async fn fetch_optional(&self, statement: Statement) -> Result<Option<Row>, ShardError> {
        self.node.database().fetch_optional(statement).await
    }
}
