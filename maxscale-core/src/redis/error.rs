use std::time::Duration;

use fred::error::{Error, ErrorKind};

use super::Unfit;
use crate::BoxError;
use crate::refusal::{Class, Classify};

/// What the driver says when its task was gone before it got the command.
const NOT_SENT: &str = "Failed to send command to router.";

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

    /// What it is called in traces, of a closed set.
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Busy => "busy",
            Self::Timeout { .. } => "timeout",
            Self::Late => "late",
            Self::Unfit(_) => "unfit",
            Self::Server { .. } => "refused",
            Self::Io { .. } => "io",
            Self::Reply { .. } => "reply",
        }
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

    /// What the server answered in place of a reply.
    pub(super) fn from_server(error: &Error) -> Self {
        Self::from_words(error.details())
    }

    /// The server's words in place of a reply.
    pub(super) fn from_words(message: &str) -> Self {
        if message.starts_with("LATE ") {
            return Self::Late;
        }
        Self::Server {
            message: message.to_owned(),
        }
    }

    /// Whether these are the server's words: they begin with a code in capitals,
    /// and the driver's do not.
    pub(super) fn is_of_server(error: &Error) -> bool {
        let code = error.details().split(' ').next().unwrap_or_default();
        !code.is_empty() && code.bytes().all(|it| it.is_ascii_uppercase())
    }

    /// What the driver says of a command that has no answer. It may have run,
    /// whatever the words are, unless they say that it was not sent.
    pub(super) fn from_driver(error: Error, limit: Duration) -> Self {
        match error.kind() {
            ErrorKind::Timeout => Self::Timeout { limit },
            ErrorKind::Backpressure => Self::Busy,
            ErrorKind::Unknown if error.details() == NOT_SENT => Self::Down,
            _ => Self::io(error),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_is_told_from_driver_by_its_code() {
        let of_server = |words: &'static str| {
            let error = Error::new(ErrorKind::Unknown, words);
            RedisError::is_of_server(&error)
        };
        for words in [
            "WRONGTYPE Operation against a key holding the wrong kind of value",
            "MOVED 3999 127.0.0.1:6381",
            "LOADING Redis is loading the dataset in memory",
            "ERR unknown command",
        ] {
            assert!(of_server(words), "{words}");
        }
        for words in ["", "Connection closed unexpectedly.", NOT_SENT] {
            assert!(!of_server(words), "{words}");
        }
    }
}
