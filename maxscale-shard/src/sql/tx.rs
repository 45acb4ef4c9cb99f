use std::borrow::Cow;
use std::fmt;
use std::ops::{Deref, DerefMut};

use maxscale_core::fact::VirtualShard;

use crate::engine::verdict;
use crate::error::ShardError;
use crate::sql::{Conn, Engine, TxId, TxOptions, Watermark, Work, outcome};
use crate::telemetry::{Began, End};

/// A transaction that dropping never harms.
///
/// Dropped before [`commit`](Tx::commit), at any await, it closes its
/// connection: what was done is rolled back, and no later borrower of the
/// connection finds itself inside a forgotten transaction. That costs one
/// reconnect, never correctness.
///
/// # Cancellation
///
/// A commit that is dropped has an unknown outcome, as one that fails with
/// [`ShardError::OutcomeUnknown`] has. After a statement that failed or was
/// dropped, it is [`ShardError::Aborted`].
pub struct Tx {
    conn: Conn,
    shard: Option<VirtualShard>,
    id: Option<TxId>,
    watermark: bool,
    open: bool,
    began: Began,
    end: End,
    after_commit: Vec<Hook>,
}

/// What is called once a transaction is committed.
pub(crate) type Hook = Box<dyn FnOnce() + Send + Sync>;

/// Marks the transaction as failed if the work inside a savepoint is dropped.
struct Inside<'t> {
    tx: &'t mut Tx,
    left: bool,
}

// === impl Tx ===

impl Tx {
    /// Sends `begin`, and asks for an id if `options` want one.
    pub(crate) async fn begin(
        mut conn: Conn,
        shard: Option<VirtualShard>,
        begin: Cow<'static, str>,
        options: &TxOptions,
    ) -> Result<Self, ShardError> {
        if let Some(deadline) = options.until() {
            conn.set_deadline(deadline);
        }
        // The guard stands before BEGIN is sent, so a drop in between closes the connection.
        let mut tx = Self {
            began: conn.counts.begin(),
            conn,
            shard,
            id: None,
            watermark: options.wants_watermark(),
            open: true,
            end: End::Dropped,
            after_commit: Vec::new(),
        };
        tx.conn.begin(begin).await?;
        if options.wants_id() && tx.engine() == Engine::Postgres {
            let current = tx.fetch_one(outcome::CURRENT.statement()).await?;
            tx.id = Some(TxId::read(&current)?);
        }
        Ok(tx)
    }

    /// The virtual shard that this transaction was begun for, if any.
    pub const fn shard(&self) -> Option<VirtualShard> {
        self.shard
    }

    /// The transaction's id, if [`TxOptions::with_id`] asked for it and the
    /// engine has such: in SQLite the answer to a commit cannot be lost.
    pub const fn id(&self) -> Option<&TxId> {
        self.id.as_ref()
    }

    /// Calls `hook` once the commit is acknowledged, e.g. to ring a doorbell.
    pub fn after_commit(&mut self, hook: impl FnOnce() + Send + Sync + 'static) {
        self.after_commit.push(Box::new(hook));
    }

    /// Runs `work` inside a savepoint: after an error, what it did is undone,
    /// and the transaction goes on. Savepoints nest.
    ///
    /// # Errors
    ///
    /// Returns what `work` returns, and [`ShardError::Aborted`] where `work`
    /// passes over an error of a statement.
    ///
    /// # Cancellation
    ///
    /// Dropped, it makes the commit fail.
    pub async fn savepoint<'w, T, E: From<ShardError>>(
        &mut self,
        work: impl for<'t> FnOnce(&'t mut Self) -> Work<'w, 't, T, E>,
    ) -> Result<T, E> {
        self.conn.nest().await?;
        let depth = self.conn.depth();
        let hooks = self.after_commit.len();
        let mut inside = Inside {
            tx: self,
            left: false,
        };
        let done = work(inside.tx).future.await;
        let left = inside.tx.conn.unnest(depth, done.is_ok()).await;
        inside.left = true;
        if done.is_err() || left.is_err() {
            inside.tx.after_commit.truncate(hooks);
        }
        left?;
        done
    }

    /// Makes the transaction's effects durable. Gives a watermark if
    /// [`TxOptions::with_watermark`] asked for it and the engine has replicas.
    ///
    /// # Errors
    ///
    /// Returns [`ShardError::OutcomeUnknown`] when the answer was lost; after
    /// any other error nothing is stored.
    pub async fn commit(mut self) -> Result<Option<Watermark>, ShardError> {
        self.end = End::Aborted;
        self.conn.stands().await?;
        self.end = End::Unknown;
        let done = self.conn.commit(self.watermark).await;
        let done = done.map_err(|error| verdict::of_commit(self.id.as_ref(), error));
        if !matches!(done, Ok(_) | Err(ShardError::OutcomeUnknown { .. })) {
            self.end = End::Aborted;
        }
        let mark = done?;
        self.open = false;
        self.end = End::Committed;
        for hook in self.after_commit.drain(..) {
            hook();
        }
        Ok(mark)
    }

    /// Leaves the transaction to the server, prepared by `command`; gives what is
    /// to be called after its commit.
    pub(crate) async fn prepare(mut self, command: String) -> Result<Vec<Hook>, ShardError> {
        self.end = End::Aborted;
        self.conn.stands().await?;
        self.end = End::Unknown;
        self.conn.prepare(command).await?;
        self.open = false;
        self.end = End::Prepared;
        Ok(std::mem::take(&mut self.after_commit))
    }

    /// Says which of its node's virtual shards the transaction works on next.
    pub(crate) const fn set_shard(&mut self, shard: VirtualShard) {
        self.shard = Some(shard);
    }

    /// Undoes the transaction and keeps its connection.
    ///
    /// # Errors
    ///
    /// Returns [`ShardError`]; the effects are undone all the same.
    pub async fn rollback(mut self) -> Result<(), ShardError> {
        self.end = End::RolledBack;
        self.conn.rollback().await?;
        self.open = false;
        Ok(())
    }

    /// Whether a statement failed because of another transaction.
    pub(crate) const fn raced(&self) -> bool {
        self.conn.raced
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
        self.conn.counts.ended(self.began, self.end);
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

// === impl Inside ===

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        if !self.left {
            self.tx.conn.failed = true;
        }
    }
}
