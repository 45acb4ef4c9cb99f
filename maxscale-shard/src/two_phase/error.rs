use maxscale_core::refusal::{Class, Classify};

use super::Decision;
use crate::engine::capabilities::Product;
use crate::error::ShardError;
use crate::topology::NodeId;

/// A transaction on several nodes was not committed, or nobody knows yet.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TwoPhaseError {
    /// The coordinator's name is not 1 to 63 of `a-z`, `0-9`, `-`.
    #[error("the coordinator's name {0:?} is not 1 to 63 of a-z, 0-9 and -")]
    Name(String),

    /// The node cannot prepare transactions. SQLite, CockroachDB and YugabyteDB
    /// have no such; PostgreSQL needs `max_prepared_transactions` above 0, which
    /// is 0 by default. A [saga](crate::saga) needs nothing of it.
    #[error(
        "{node} ({product}) prepares no transactions: it takes PostgreSQL with max_prepared_transactions above 0"
    )]
    Unsupported {
        /// The node.
        node: NodeId,
        /// What answers there.
        product: Product,
    },

    /// Nowhere to write the decision: each participant's key is sent by an override
    /// to a node other than that of its virtual shard.
    #[error("no participant is on the node of its virtual shard")]
    NoHome,

    /// Nothing is stored on any node.
    #[error("the transaction was rolled back on all nodes")]
    Aborted {
        /// What made it so.
        #[source]
        source: ShardError,
    },

    /// The answer to the deciding commit was lost, and its node cannot be asked.
    /// [`TwoPhase::outcome`](super::TwoPhase::outcome) tells what became of it
    /// once it can, and [`TwoPhase::recover`](super::TwoPhase::recover) ends it.
    #[error("nobody knows yet whether the transaction was committed")]
    InDoubt {
        /// The transaction, to ask for later.
        decision: Decision,
        /// Why there was no answer.
        #[source]
        source: ShardError,
    },

    /// A database could not be asked.
    #[error(transparent)]
    Shard(#[from] ShardError),
}

// === impl TwoPhaseError ===

impl Classify for TwoPhaseError {
    fn class(&self) -> Class {
        match self {
            Self::Name(_) | Self::Unsupported { .. } | Self::NoHome => Class::Internal,
            Self::InDoubt { .. } => Class::Unavailable,
            Self::Aborted { source } | Self::Shard(source) => source.class(),
        }
    }
}
