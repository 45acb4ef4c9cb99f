use std::time::Duration;

use crate::refusal::{Class, Classify};

/// Why somebody got no place.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum HoldError {
    /// All places are held: 429.
    #[error("all {most} places of `{holders}` are held")]
    TooMany {
        /// What is limited so.
        holders: Box<str>,
        /// How many places there are.
        most: u32,
        /// When the next lease runs out: the place of a holder that died is free by
        /// then. That of one that lives is free when it is released, which may be
        /// earlier or later.
        retry_after: Duration,
    },

    /// Nobody gets a place while Redis is down ([`Down::Closed`](crate::limit::Down::Closed)): 503.
    #[error("the places of `{holders}` cannot be counted")]
    Unknown {
        /// What is limited so.
        holders: Box<str>,
        /// When to ask again.
        retry_after: Duration,
    },
}

impl Classify for HoldError {
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
