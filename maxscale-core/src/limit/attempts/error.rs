use std::time::Duration;

use crate::refusal::{Class, Classify};

/// Why nobody may try now.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum AttemptError {
    /// Too much was tried: 429.
    #[error("too many attempts; try again later")]
    TooMany {
        /// What was tried.
        attempts: Box<str>,
        /// When one would be admitted, if nobody else tries.
        retry_after: Duration,
    },

    /// Nobody may while Redis is down ([`Down::Closed`](crate::limit::Down::Closed)): 503.
    #[error("attempts cannot be counted")]
    Unknown {
        /// What was tried.
        attempts: Box<str>,
        /// When to ask again.
        retry_after: Duration,
    },
}

impl Classify for AttemptError {
    fn class(&self) -> Class {
        match self {
            Self::TooMany { .. } => Class::Limited,
            Self::Unknown { .. } => Class::Unavailable,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::TooMany { retry_after, .. } | Self::Unknown { retry_after, .. } => {
                Some(*retry_after)
            }
        }
    }
}
