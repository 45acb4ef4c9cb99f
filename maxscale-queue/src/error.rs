use maxscale_core::fact::VirtualShard;
use maxscale_core::refusal::{Class, Classify};
use maxscale_shard::ShardError;

use crate::job::JobId;

/// A job was not enqueued, found or completed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QueueError {
    /// The transaction was not begun for a virtual shard, so the job has no home.
    #[error("the transaction belongs to no virtual shard")]
    NoShard,

    /// The transaction was begun for another virtual shard than the job's.
    #[error("job {job} lives on virtual shard {expected}, the transaction is on another")]
    WrongShard {
        /// The job.
        job: JobId,
        /// Where it lives.
        expected: VirtualShard,
    },

    /// The arguments are larger than a row should be.
    #[error("arguments of {size} bytes are over the limit of {limit}")]
    TooLarge {
        /// Their size as JSON.
        size: usize,
        /// The limit.
        limit: usize,
    },

    /// The arguments do not serialize.
    #[error("cannot encode the arguments of a {kind}")]
    Encode {
        /// The job's kind.
        kind: &'static str,
        /// Why not.
        #[source]
        source: serde_json::Error,
    },

    /// The lease ran out and the job is no longer this worker's.
    #[error("the lease of job {job} was lost")]
    StaleLease {
        /// The job.
        job: JobId,
    },

    /// Two handlers for one kind.
    #[error("kind {kind} is registered twice")]
    RegisteredTwice {
        /// The kind.
        kind: &'static str,
    },

    /// The database could not be asked.
    #[error(transparent)]
    Shard(#[from] ShardError),
}

impl Classify for QueueError {
    fn class(&self) -> Class {
        match self {
            Self::TooLarge { .. } => Class::TooLarge,
            Self::StaleLease { .. } => Class::Conflict,
            Self::Shard(error) => error.class(),
            _ => Class::Internal,
        }
    }
}
