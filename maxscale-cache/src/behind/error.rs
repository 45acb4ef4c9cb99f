use std::sync::Arc;
use std::time::Duration;

use maxscale_core::BoxError;
use maxscale_core::refusal::{Class, Classify};

use crate::error::JournalError;

/// A value was not accepted, or it is unknown whether it was.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BehindError {
    /// So much is waiting to be written that there was no room in time.
    /// Nothing was accepted.
    #[error("no room for another unwritten value within {} ms", waited.as_millis())]
    Full {
        /// How long it waited.
        waited: Duration,
    },

    /// It was shut down. Nothing was accepted.
    #[error("unwritten values are not accepted any more")]
    Closed,

    /// Id and value together are longer than what is ever accepted.
    #[error("a value of {size} bytes is too long; {most} are allowed")]
    TooLarge {
        /// How long they are.
        size: usize,
        /// How long they may be.
        most: usize,
    },

    /// Another process has taken the journal over. Nothing was accepted, and
    /// nothing more is written or read here: open it again, or end.
    #[error("another process writes the values of this journal now")]
    Lost,

    /// It **is** accepted, is read here and will be written, and is on disk at
    /// the server; but too few of its replicas confirmed that in time.
    #[error("accepted, but {confirmed} of {wanted} replicas have confirmed")]
    NotReplicated {
        /// Under this version.
        version: u64,
        /// How many were wanted.
        wanted: u32,
        /// How many confirmed.
        confirmed: u32,
    },

    /// The value has no encoded form. Nothing was accepted.
    #[error("cannot encode the value")]
    Encode(#[source] Arc<BoxError>),

    /// The journal did not confirm. It is **unknown** whether the value is in
    /// it: it may be written after the next start, unless another one was
    /// accepted since. Reads here do not get it.
    #[error("the journal did not confirm")]
    Journal(#[source] Arc<JournalError>),
}

/// A graceful end did not write everything in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{left} values were not written in time")]
pub struct Unflushed {
    pub(super) left: usize,
}

// === impl BehindError ===

impl Classify for BehindError {
    fn class(&self) -> Class {
        match self {
            Self::Full { .. }
            | Self::Closed
            | Self::Lost
            | Self::NotReplicated { .. }
            | Self::Journal(_) => Class::Unavailable,
            Self::TooLarge { .. } => Class::TooLarge,
            Self::Encode(_) => Class::Internal,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Full { .. } => Some(Duration::from_secs(1)),
            _ => None,
        }
    }
}

// === impl Unflushed ===

impl Unflushed {
    /// How many. A journal has them still; without one they are lost.
    pub const fn left(self) -> usize {
        self.left
    }
}
