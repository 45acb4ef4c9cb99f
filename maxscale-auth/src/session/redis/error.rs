use std::sync::Arc;
use std::time::Duration;

use maxscale_core::refusal::{Class, Classify};

/// Sessions could not be read or changed. That Redis is down is no reason for it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RedisSessionsError<E> {
    /// Too many wait for the rows, as Redis does not answer.
    #[error("too many sessions are being read from their rows")]
    Busy,

    /// The store behind did not answer.
    #[error("the rows of sessions did not answer")]
    Rows(#[source] Arc<E>),
}

// === impl RedisSessionsError ===

impl<E> RedisSessionsError<E> {
    pub(super) fn rows(error: E) -> Self {
        Self::Rows(Arc::new(error))
    }
}

// A cause is shared by all who waited for it.
impl<E> Clone for RedisSessionsError<E> {
    fn clone(&self) -> Self {
        match self {
            Self::Busy => Self::Busy,
            Self::Rows(error) => Self::Rows(error.clone()),
        }
    }
}

impl<E: Classify + 'static> Classify for RedisSessionsError<E> {
    fn class(&self) -> Class {
        match self {
            Self::Busy => Class::Unavailable,
            Self::Rows(error) => error.class(),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Busy => Some(Duration::from_secs(1)),
            Self::Rows(error) => error.retry_after(),
        }
    }
}
