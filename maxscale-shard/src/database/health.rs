//! What is known of a server, for whoever shows it or is refused because of it.

use std::fmt;
use std::sync::Arc;

use tokio::time::Instant;

use crate::router::WritesRefused;

/// Whether a database's server answers, as its calls and its checks found.
///
/// It says nothing about SQL that fails: a server that refuses a statement is well.
#[derive(Clone, Debug, Default)]
pub struct Health {
    pub(super) suspect_since: Option<Instant>,
    pub(super) last_failure: Option<Failure>,
    pub(super) writes_refused: Option<WritesRefused>,
}

/// A call or a check that did not reach the server.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Failure {
    /// When it failed.
    pub at: Instant,
    /// Why, as the driver said it.
    pub why: Arc<str>,
}

/// A call refused at once because its server is known to be away: the source of a
/// [`ShardError::Connect`](crate::ShardError::Connect).
///
/// The server is asked in the background; calls are let through as soon as it answers.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct KnownDown {
    /// Since when it is known.
    pub since: Instant,
    /// How the server was last found to be away.
    pub last_failure: Option<Failure>,
}

// === impl Health ===

impl Health {
    /// Whether calls are refused, until the server answers again.
    pub const fn is_suspect(&self) -> bool {
        self.suspect_since.is_some()
    }

    /// Since when calls are refused.
    pub const fn suspect_since(&self) -> Option<Instant> {
        self.suspect_since
    }

    /// Why nothing is written to its node, if nothing is.
    pub const fn writes_refused(&self) -> Option<WritesRefused> {
        self.writes_refused
    }

    /// The last failure there was, however long ago.
    pub const fn last_failure(&self) -> Option<&Failure> {
        self.last_failure.as_ref()
    }
}

// === impl KnownDown ===

impl fmt::Display for KnownDown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "known to be away for {:.1?}", self.since.elapsed())?;
        match &self.last_failure {
            Some(failure) => write!(f, " ({})", failure.why),
            None => Ok(()),
        }
    }
}

impl std::error::Error for KnownDown {}
