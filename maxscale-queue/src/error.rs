use maxscale_core::BoxError;
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

    /// Arguments, progress or the results of steps are larger than a row should be.
    #[error("{size} bytes of JSON are over the limit of {limit}")]
    TooLarge {
        /// Their size as JSON.
        size: usize,
        /// The limit.
        limit: usize,
    },

    /// The tenant's name is longer than [`EnqueueOptions::MAX_TENANT`](crate::EnqueueOptions::MAX_TENANT).
    #[error("a tenant's name of {size} bytes is too long")]
    LongTenant {
        /// Its size in bytes.
        size: usize,
    },

    /// A name is longer than [`Queue::MAX_NAME`](crate::Queue::MAX_NAME).
    #[error("a {place} of {size} bytes is too long")]
    LongName {
        /// Which name: of a queue, of a kind, of keys.
        place: &'static str,
        /// Its size in bytes.
        size: usize,
    },

    /// There are more tags than [`EnqueueOptions::MAX_TAGS`](crate::EnqueueOptions::MAX_TAGS),
    /// or one is empty or longer than [`EnqueueOptions::MAX_TAG`](crate::EnqueueOptions::MAX_TAG).
    #[error("too many tags, or one that is empty or too long")]
    Tags,

    /// A text has a NUL in it, which PostgreSQL does not store.
    #[error("the {place} has a NUL in it")]
    Nul {
        /// Which text.
        place: &'static str,
    },

    /// A span is longer than [`EnqueueOptions::MAX_DELAY`](crate::EnqueueOptions::MAX_DELAY),
    /// or a moment before 1970 or past all calendars.
    #[error("a job is put off for too long")]
    TooFar,

    /// A job's runs have no time: its timeout is zero.
    #[error("a job with a timeout of zero cannot run")]
    NoTime,

    /// Some of many jobs were enqueued.
    #[error("{} jobs were enqueued, and some were not", stored.len())]
    Partly {
        /// Those that were, with their places among the given ones. What failed may
        /// have been stored as well where the [outcome is
        /// unknown](ShardError::OutcomeUnknown).
        stored: Vec<(usize, JobId)>,
        /// Why not the others.
        #[source]
        source: Box<Self>,
    },

    /// Arguments are to be sealed, and there are no keys for it, or no longer.
    #[error("there is no key to seal arguments with")]
    NoKey,

    /// Arguments could not be sealed.
    #[error("cannot seal arguments")]
    Keys {
        /// Why not.
        #[source]
        source: BoxError,
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

    /// The result of a step is not what it was when it was kept, or does not serialize.
    #[error("the result of step {name} is not of this type")]
    Step {
        /// The step.
        name: String,
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

    /// There is no thread to renew leases on.
    #[error("cannot start the thread that keeps leases")]
    Thread(#[source] std::io::Error),

    /// The database could not be asked.
    #[error(transparent)]
    Shard(#[from] ShardError),
}

impl Classify for QueueError {
    fn class(&self) -> Class {
        match self {
            Self::TooLarge { .. } => Class::TooLarge,
            Self::LongTenant { .. }
            | Self::LongName { .. }
            | Self::Tags
            | Self::Nul { .. }
            | Self::TooFar
            | Self::NoTime => Class::Invalid,
            Self::Partly { source, .. } => source.class(),
            Self::StaleLease { .. } => Class::Conflict,
            Self::Shard(error) => error.class(),
            _ => Class::Internal,
        }
    }
}
