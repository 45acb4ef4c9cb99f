use std::time::Duration;

use http::HeaderName;
use maxscale_core::refusal::{Class, Classify};

use super::RequestKey;
use crate::error::ShardError;

/// Why a request was not routed. What is told to the caller never repeats what
/// the caller sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RouteError {
    /// The request lacks a fact: the stack is built wrongly.
    #[error("the route needs {fact}")]
    NoFact {
        /// What is missing, and how to add it.
        fact: &'static str,
    },

    /// The path is none that has a key.
    #[error("there is nothing at this path")]
    NoPath,

    /// The header with the key was not sent.
    #[error("the route needs the header {header}")]
    NoHeader {
        /// The header's name.
        header: HeaderName,
    },

    /// The header with the key was sent twice, or is not of visible ASCII.
    #[error("the header {header} must be sent once, as visible ASCII")]
    BadHeader {
        /// The header's name.
        header: HeaderName,
    },

    /// The segment of the path with the key is badly escaped, or not UTF-8.
    #[error("the key in the path is badly escaped")]
    BadPath,

    /// The key is longer than any that is meant.
    #[error("the key is longer than {max} bytes", max = RequestKey::MAX_LEN)]
    TooLong,

    /// The router refuses the key, or the shard cannot be used now.
    #[error(transparent)]
    Shard(#[from] ShardError),
}

// === impl RouteError ===

impl Classify for RouteError {
    fn class(&self) -> Class {
        match self {
            Self::NoFact { .. } => Class::Internal,
            Self::NoPath => Class::NotFound,
            Self::NoHeader { .. } | Self::BadHeader { .. } | Self::BadPath | Self::TooLong => {
                Class::Invalid
            }
            Self::Shard(error) => error.class(),
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Shard(error) => error.code(),
            _ => self.class().code(),
        }
    }

    // Also of a stack built wrongly: whoever builds it reads this first.
    fn detail(&self) -> Option<String> {
        match self {
            Self::Shard(error) => error.detail(),
            _ => Some(self.to_string()),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Shard(error) => error.retry_after(),
            _ => None,
        }
    }
}
