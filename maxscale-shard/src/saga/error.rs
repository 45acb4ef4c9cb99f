use maxscale_core::BoxError;
use maxscale_core::id::Id;
use maxscale_core::refusal::{Class, Classify};

use crate::error::ShardError;

/// A saga was not begun, or is not driven.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SagaError {
    /// The transaction is of no virtual shard, so the saga would be found nowhere.
    #[error("the transaction was begun for no shard: begin it with a router's shard or key")]
    NoShard,

    /// The payload cannot be stored.
    #[error("cannot store the payload of saga {name}")]
    Payload {
        /// The saga's name.
        name: &'static str,
        /// What its [`Payload`](super::Payload) said.
        #[source]
        source: BoxError,
    },

    /// There is no saga of this id on the shard.
    #[error("no saga {id} is known here")]
    NotFound {
        /// The id.
        id: Id,
    },

    /// The saga's name was not given to [`Sagas::with`](super::Sagas::with): another
    /// version of the program began it. It stays as it is.
    #[error("nobody said how saga {name} is done")]
    Unknown {
        /// The name.
        name: String,
    },

    /// The row could not be read or written.
    #[error(transparent)]
    Shard(#[from] ShardError),
}

/// A step was not done, or not undone.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StepError {
    /// It cannot be, now or later: the saga is compensated. Where a compensation
    /// says so, the saga is stuck.
    #[error("it cannot be done")]
    Refused(#[source] BoxError),

    /// It may go well the next time.
    #[error("it failed")]
    Failed(#[source] BoxError),

    /// A statement failed. What passes by itself, as a database that is away, is
    /// tried until it goes well; what does not, as often as the saga's tries.
    #[error(transparent)]
    Shard(#[from] ShardError),
}

// === impl StepError ===

impl StepError {
    /// Says that it cannot be done, now or later, and why.
    pub fn refused(why: impl Into<BoxError>) -> Self {
        Self::Refused(why.into())
    }

    /// Says that it failed, and why.
    pub fn failed(why: impl Into<BoxError>) -> Self {
        Self::Failed(why.into())
    }
}

// === impl SagaError ===

impl Classify for SagaError {
    fn class(&self) -> Class {
        match self {
            Self::NotFound { .. } => Class::NotFound,
            Self::NoShard | Self::Payload { .. } | Self::Unknown { .. } => Class::Internal,
            Self::Shard(error) => error.class(),
        }
    }
}
