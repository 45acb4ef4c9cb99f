use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use maxscale_core::BoxError;
use maxscale_core::refusal::{Class, Classify};

/// A value could not be had. `E` is the load's own error.
///
/// A cache that is down is no error: the value is then loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CacheError<E> {
    /// The load failed. Everyone who waited for it gets the same error; it is not kept.
    #[error("cannot load the value")]
    Load(#[source] Arc<E>),

    /// Too many loads were under way for too long.
    #[error("too many values are being loaded")]
    Overloaded,

    /// The load took longer than the hub allows.
    #[error("loading the value took too long")]
    TimedOut,

    /// The load ended without an answer: it panicked, or the runtime shut down.
    #[error("the load ended without an answer")]
    Aborted,
}

/// A write through the cache did not end well. `E` is the write's own error.
///
/// The value is dropped from the cache in either case.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError<E> {
    /// The write failed, or it is unknown what became of it.
    #[error("cannot write the value")]
    Write(#[source] E),

    /// The write ended without an answer: it panicked, or the runtime shut
    /// down. It is unknown what became of it.
    #[error("the write ended without an answer")]
    Aborted,
}

/// An invalidation names a type that this process has no cache of.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no cache of `{kind}` in this process")]
pub struct UnknownKind {
    pub(crate) kind: Arc<str>,
}

/// A journal cannot be opened, read or written: that of
/// [unconfirmed invalidations](crate::HubBuilder::journal), or one of values
/// that are [not written yet](crate::behind).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// Another process, or another handle in this one, has it open.
    #[error("the journal {place} is in use")]
    InUse {
        /// Its folder, or the key of its stream.
        place: String,
    },

    /// Another process took the stream over, since this one was not heard of
    /// for as long as its lease is.
    #[error("another process has the journal {place} now")]
    Lost {
        /// The key of its stream.
        place: String,
    },

    /// Redis did not do what it was asked, or is not what it has to be
    /// ([`Unfit::Loses`](maxscale_core::redis::Unfit::Loses)).
    #[cfg(feature = "redis")]
    #[error("cannot {step} the stream {key}")]
    Stream {
        /// What was tried.
        step: &'static str,
        /// Its key.
        key: String,
        /// Why not.
        #[source]
        source: maxscale_core::redis::RedisError,
    },

    /// The system refused.
    #[error("cannot {step} {}", path.display())]
    Io {
        /// What was tried.
        step: &'static str,
        /// With which file or folder.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },

    /// A file is damaged where only what was acknowledged can have been.
    /// Nothing was changed.
    #[error("the journal file {} is damaged at byte {at}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where.
        at: u64,
    },

    /// It holds something of another kind.
    #[error("the journal file {} is not one of `{kind}`", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// The kind that was expected.
        kind: &'static str,
    },

    /// An entry cannot be read as what it has to be now. Start the release
    /// that wrote it, and let it end gracefully; nothing was changed.
    #[error("the journal has an entry `{id}` that this release cannot read")]
    Decode {
        /// What it is of: the id of a value, or a whole invalidation; of a
        /// stream's entry its own id.
        id: String,
        /// Why not.
        #[source]
        source: BoxError,
    },

    /// The task that worked on it is gone: it panicked, or the runtime shut down.
    #[error("the journal failed")]
    Failed,
}

// === impl CacheError ===

impl<E> Clone for CacheError<E> {
    fn clone(&self) -> Self {
        match self {
            Self::Load(error) => Self::Load(error.clone()),
            Self::Overloaded => Self::Overloaded,
            Self::TimedOut => Self::TimedOut,
            Self::Aborted => Self::Aborted,
        }
    }
}

impl<E: Classify + 'static> Classify for CacheError<E>
where
    Arc<E>: Error,
{
    fn class(&self) -> Class {
        match self {
            Self::Load(error) => error.class(),
            Self::Overloaded => Class::Unavailable,
            Self::TimedOut => Class::Timeout,
            Self::Aborted => Class::Internal,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Load(error) => error.code(),
            _ => self.class().code(),
        }
    }

    fn detail(&self) -> Option<String> {
        match self {
            Self::Load(error) => error.detail(),
            _ => None,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Load(error) => error.retry_after(),
            Self::Overloaded => Some(Duration::from_secs(1)),
            _ => None,
        }
    }
}

// === impl WriteError ===

impl<E: Classify + 'static> Classify for WriteError<E> {
    fn class(&self) -> Class {
        match self {
            Self::Write(error) => error.class(),
            Self::Aborted => Class::Internal,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Write(error) => error.code(),
            Self::Aborted => self.class().code(),
        }
    }

    fn detail(&self) -> Option<String> {
        match self {
            Self::Write(error) => error.detail(),
            Self::Aborted => None,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Write(error) => error.retry_after(),
            Self::Aborted => None,
        }
    }
}

// === impl JournalError ===

impl Classify for JournalError {
    fn class(&self) -> Class {
        Class::Internal
    }
}

// === impl UnknownKind ===

impl UnknownKind {
    /// The type's name.
    pub fn kind(&self) -> &str {
        &self.kind
    }
}

impl Classify for UnknownKind {
    fn class(&self) -> Class {
        Class::Internal
    }
}
