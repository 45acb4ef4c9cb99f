use std::fmt;
use std::ops::{Deref, DerefMut};

use maxscale_core::fact::VirtualShard;

use crate::error::ShardError;
use crate::sql::Conn;

/// A transaction that dropping never harms.
///
/// Dropped before [`commit`](Tx::commit), at any await, it closes its
/// connection: what was done is rolled back, and no later borrower of the
/// connection finds itself inside a forgotten transaction. That costs one
/// reconnect, never correctness.
///
/// # Cancellation
///
/// A commit that is dropped or fails with [`ShardError::Connect`] has an
/// unknown outcome. After a statement that failed or was dropped, it is
/// [`ShardError::Aborted`].
pub struct Tx {
    conn: Conn,
    shard: Option<VirtualShard>,
    open: bool,
    after_commit: Vec<Box<dyn FnOnce() + Send + Sync>>,
}

// === impl Tx ===

impl Tx {
    pub(crate) async fn begin(conn: Conn, shard: Option<VirtualShard>) -> Result<Self, ShardError> {
        // The guard stands before BEGIN is sent, so a drop in between closes the connection.
        let mut tx = Self {
            conn,
            shard,
            open: true,
            after_commit: Vec::new(),
        };
        tx.conn.begin().await?;
        Ok(tx)
    }

    /// The virtual shard that this transaction was begun for, if any.
    pub const fn shard(&self) -> Option<VirtualShard> {
        self.shard
    }

    /// Calls `hook` once the commit is acknowledged, e.g. to ring a doorbell.
    pub fn after_commit(&mut self, hook: impl FnOnce() + Send + Sync + 'static) {
        self.after_commit.push(Box::new(hook));
    }

    /// Makes the transaction's effects durable.
    ///
    /// # Errors
    ///
    /// Returns [`ShardError`]; after [`ShardError::Connect`] the outcome is unknown.
    pub async fn commit(mut self) -> Result<(), ShardError> {
        self.conn.commit().await?;
        self.open = false;
        for hook in self.after_commit.drain(..) {
            hook();
        }
        Ok(())
    }

    /// Undoes the transaction and keeps its connection.
    ///
    /// # Errors
    ///
    /// Returns [`ShardError`]; the effects are undone all the same.
    pub async fn rollback(mut self) -> Result<(), ShardError> {
        self.conn.rollback().await?;
        self.open = false;
        Ok(())
    }
}

impl Deref for Tx {
    type Target = Conn;

    fn deref(&self) -> &Conn {
        &self.conn
    }
}

impl DerefMut for Tx {
    fn deref_mut(&mut self) -> &mut Conn {
        &mut self.conn
    }
}

impl Drop for Tx {
    fn drop(&mut self) {
        if self.open {
            self.conn.close_on_drop();
        }
    }
}

impl fmt::Debug for Tx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tx")
            .field("database", &self.conn.database)
            .field("shard", &self.shard)
            .finish_non_exhaustive()
    }
}
