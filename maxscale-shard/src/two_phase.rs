//! One transaction on several PostgreSQL nodes, committed on all or on none.
//!
//! ```text
//!  first node    BEGIN ─ .. ─ note the decision ──────────────── COMMIT ────────────────
//!  other nodes   BEGIN ─ .. ───────────────────── PREPARE ──────────────── COMMIT PREPARED
//!                                                                  └ decided here
//! ```
//!
//! The first participant's own commit decides: its row says so. A participant
//! that is prepared and finds no such row is rolled back (presumed abort).
//!
//! # What it guarantees
//!
//! **Atomic**: once [`recover`](TwoPhase::recover) has run, every participant is
//! committed or none is, whoever was killed and whatever answer was lost.
//!
//! **Not isolated**: the participants commit one after the other, so somebody who
//! reads two of them meanwhile may see one with the change and one without.
//!
//! **The price**: from PREPARE to COMMIT PREPARED a participant holds its locks,
//! and keeps vacuum from cleaning up, also when the process that coordinates is
//! gone: until a recovery pass, which some process must run every few seconds.
//! While the first node is away nobody knows the decision, and the others' locks
//! stay. Each server needs `max_prepared_transactions`, 0 by default, above the
//! number of such transactions at once. A failover to a replica that had not read
//! a commit loses it, here as everywhere, and then atomicity with it: use
//! synchronous replication. Where a [saga](crate::saga) does, prefer it.

mod commit;
mod counts;
mod decision;
mod error;
mod gid;
mod prepared;
mod recover;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use maxscale_core::fact::VirtualShard;
use maxscale_core::id::Id;
use maxscale_core::meter::Meter;

use crate::error::ShardError;
use crate::key::Key;
use crate::router::{Node, Router};
use crate::sql::Tx;

use counts::Counts;
pub use decision::Decision;
pub use error::TwoPhaseError;
pub use recover::Resolved;

/// Begins transactions on several nodes, and ends those that nobody ends. Cheap
/// to clone.
#[derive(Clone, Debug)]
pub struct TwoPhase {
    router: Router,
    coordinator: Arc<str>,
    age: Duration,
    keep: Duration,
    counts: Counts,
}

/// A transaction on several nodes that dropping never harms, as it never harms a [`Tx`].
///
/// # Cancellation
///
/// Dropped before [`commit`](Self::commit), everything is rolled back. A commit
/// that is dropped ends as committed or as rolled back on all nodes, by the next
/// recovery pass.
///
/// # Examples: what is committed on both nodes or on neither?
///
/// ```
/// # use maxscale_core::id::Id;
/// # use maxscale_shard::two_phase::{TwoPhase, TwoPhaseError};
/// # use maxscale_shard::sql;
/// # async fn give(two_phase: &TwoPhase, id: Id, from: Id, to: Id) -> Result<(), TwoPhaseError> {
/// let mut both = two_phase.begin(id);
/// for (user, cents) in [(from, -30_i64), (to, 30)] {
///     let tx = both.on(user).await?;
///     let add = sql("UPDATE purse SET cents = cents + $3 WHERE shard_id = $1 AND user_id = $2");
///     let add = add.bind(tx.shard()).bind(user).bind(cents);
///     tx.execute(add).await?;
/// }
/// both.commit().await?;
/// # Ok(())
/// # }
/// ```
#[must_use = "what is not committed is rolled back"]
pub struct TwoPhaseTx {
    of: TwoPhase,
    id: Id,
    participants: Vec<Participant>,
}

/// A node, and the transaction on it.
struct Participant {
    node: Node,
    /// The first virtual shard of the node that was worked on.
    shard: VirtualShard,
    tx: Tx,
}

/// What became of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Decided {
    /// How many participants are committed and do not show it yet: their node was
    /// away. A recovery pass ends them.
    pub unfinished: usize,
}

// === impl TwoPhase ===

impl TwoPhase {
    /// How old a prepared transaction is before a recovery pass ends it.
    pub const DEFAULT_AGE: Duration = Duration::from_secs(30);
    /// How long a decision can be asked for after everything is committed.
    pub const DEFAULT_KEEP: Duration = Duration::from_secs(60 * 60);

    /// Begins transactions in the name of `coordinator`, which the servers show of
    /// them (`pg_prepared_xacts`): the service's, for example. Any process may end
    /// those of any other.
    ///
    /// # Errors
    ///
    /// Returns [`TwoPhaseError::Name`] unless it is 1 to 63 of `a-z`, `0-9`, `-`.
    pub fn new(router: Router, coordinator: &str) -> Result<Self, TwoPhaseError> {
        if !gid::is_name(coordinator) {
            return Err(TwoPhaseError::Name(coordinator.to_owned()));
        }
        Ok(Self {
            router,
            coordinator: coordinator.into(),
            age: Self::DEFAULT_AGE,
            keep: Self::DEFAULT_KEEP,
            counts: Counts::default(),
        })
    }

    /// Sets how old a prepared transaction is before a recovery pass ends it. One
    /// that its coordinator still works on is not harmed: it is passed over, or
    /// committed together with it. Default: [`TwoPhase::DEFAULT_AGE`].
    #[must_use]
    pub const fn age(mut self, age: Duration) -> Self {
        self.age = age;
        self
    }

    /// Sets how long [`outcome`](Self::outcome) can tell of a commit. Default:
    /// [`TwoPhase::DEFAULT_KEEP`].
    #[must_use]
    pub const fn keep(mut self, keep: Duration) -> Self {
        self.keep = keep;
        self
    }

    /// Counts what recovery passes end (`maxscale.two_phase.resolved`, by `outcome`:
    /// `committed`, `rolled_back`), and tells of the last pass how many it could
    /// not end (`maxscale.two_phase.in_doubt`) and how old the oldest was
    /// (`maxscale.two_phase.in_doubt.age`).
    #[must_use]
    pub fn meter(mut self, meter: &Meter) -> Self {
        self.counts = Counts::register(meter);
        self
    }

    /// Begins a transaction called `id`, which no other is. Asks nobody yet.
    pub fn begin(&self, id: Id) -> TwoPhaseTx {
        TwoPhaseTx {
            of: self.clone(),
            id,
            participants: Vec::new(),
        }
    }

    /// Whether a transaction whose commit was in doubt is committed: on all its
    /// nodes then, as far as a recovery pass has come.
    ///
    /// # Errors
    ///
    /// Returns [`ShardError::Busy`] while it is being decided, and others when the
    /// deciding node cannot be asked.
    pub async fn outcome(&self, decision: &Decision) -> Result<bool, ShardError> {
        let home = self.router.virtual_shard(decision.shard)?;
        decision.is_committed(home.node().database()).await
    }
}

// === impl TwoPhaseTx ===

impl TwoPhaseTx {
    /// The transaction on the node of `key`, begun if this is the first of its keys
    /// there. What [`Tx::shard`] gives is that of the key which was asked for last.
    ///
    /// # Errors
    ///
    /// Returns [`TwoPhaseError::Unsupported`], and [`TwoPhaseError::Shard`] as
    /// [`Router::shard`] and [`Database::begin`](crate::Database::begin) do.
    pub async fn on<'k>(&mut self, key: impl Into<Key<'k>>) -> Result<&mut Tx, TwoPhaseError> {
        let shard = self.of.router.shard(key)?;
        let node = shard.node();
        let known = self.participants.iter();
        let known = known.map(|participant| participant.node.id());
        let at = match known.enumerate().find(|(_, id)| *id == node.id()) {
            Some((at, _)) => at,
            None => {
                let capabilities = node.database().capabilities().await?;
                if !capabilities.two_phase {
                    return Err(TwoPhaseError::Unsupported {
                        node: node.id().clone(),
                        product: capabilities.product,
                    });
                }
                self.participants.push(Participant {
                    tx: shard.begin().await?,
                    node: node.clone(),
                    shard: shard.id(),
                });
                self.participants.len() - 1
            }
        };
        let tx = &mut self.participants[at].tx;
        tx.set_shard(shard.id());
        Ok(tx)
    }

    /// Commits on all nodes, or on none. With one participant it is a plain commit.
    ///
    /// # Errors
    ///
    /// Returns [`TwoPhaseError::Aborted`], [`TwoPhaseError::NoHome`] or, with one
    /// participant, what [`Tx::commit`] does: nothing is stored then, unless that
    /// is unknown. [`TwoPhaseError::InDoubt`] says that it is.
    pub async fn commit(self) -> Result<Decided, TwoPhaseError> {
        commit::commit(self).await
    }

    /// Undoes everything and keeps the connections.
    pub async fn rollback(self) {
        commit::undo(self.participants).await;
    }
}

impl fmt::Debug for TwoPhaseTx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nodes: Vec<_> = self.participants.iter().map(|p| p.node.id()).collect();
        f.debug_struct("TwoPhaseTx")
            .field("id", &self.id)
            .field("nodes", &nodes)
            .finish_non_exhaustive()
    }
}
