use std::time::Duration;

use fred::error::{Error, ErrorKind};

use super::Unfit;
use crate::BoxError;
use crate::refusal::{Class, Classify};

/// A command gave no reply.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RedisError {
    /// Not connected, or the breaker is open: the command was not sent.
    #[error("redis is down")]
    Down,

    /// Too many commands are in flight: the command was not sent.
    #[error("too many commands to redis are in flight")]
    Busy,

    /// No reply in time. The command may have run, or may yet run.
    #[error("redis did not reply within {} ms", limit.as_millis())]
    Timeout {
        /// How long it waited.
        limit: Duration,
    },

    /// The server got to it after its deadline and did nothing; see
    /// [`Script::by_deadline`](super::Script::by_deadline).
    #[error("redis got the script after its deadline")]
    Late,

    /// The server must not be used for what it was meant for: not sent.
    #[error(transparent)]
    Unfit(#[from] Unfit),

    /// The server answered with an error.
    #[error("redis answered: {message}")]
    Server {
        /// The server's words, its error code first.
        message: String,
    },

    /// The connection failed. The command may have run.
    #[error("the connection to redis failed")]
    Io {
        /// What the driver said.
        #[source]
        source: BoxError,
    },

    /// The reply has another form than the caller expected.
    #[error("redis gave an unexpected reply to {command}")]
    Reply {
        /// The command that was answered.
        command: &'static str,
    },
}

// === impl RedisError ===

impl RedisError {
    /// Whether the command may have had its effect all the same.
    ///
    /// What is not idempotent must not be tried again if so.
    pub const fn may_have_run(&self) -> bool {
        matches!(
            self,
            Self::Timeout { .. } | Self::Io { .. } | Self::Reply { .. }
        )
    }

    /// Whether the server did not answer although it was asked.
    pub(super) const fn is_silence(&self) -> bool {
        matches!(self, Self::Timeout { .. } | Self::Io { .. })
    }

    pub(super) fn is_unknown_script(&self) -> bool {
        matches!(self, Self::Server { message } if message.starts_with("NOSCRIPT"))
    }

    /// Whether the server does not take writes, so that another one does.
    pub(super) fn is_demoted(&self) -> bool {
        matches!(self, Self::Server { message }
            if message.starts_with("READONLY") || message.starts_with("MASTERDOWN"))
    }

    pub(super) fn io(source: Error) -> Self {
        Self::Io {
            source: Box::new(source),
        }
    }

    pub(super) fn from_driver(error: Error, limit: Duration) -> Self {
        match error.kind() {
            ErrorKind::Timeout => Self::Timeout { limit },
            ErrorKind::Backpressure => Self::Busy,
            ErrorKind::IO | ErrorKind::Canceled | ErrorKind::Routing | ErrorKind::Protocol => {
                Self::io(error)
            }
            // The driver closes the connection over it, and says so to all that
            // was in flight, also to what may have run.
            ErrorKind::Cluster if error.details().starts_with("CLUSTERDOWN") => Self::io(error),
            _ if error.details().starts_with("LATE ") => Self::Late,
            _ => Self::Server {
                message: error.details().to_owned(),
            },
        }
    }
}

impl Classify for RedisError {
    fn class(&self) -> Class {
        Class::Unavailable
    }

    fn retry_after(&self) -> Option<Duration> {
        Some(Duration::from_secs(1))
    }
}
