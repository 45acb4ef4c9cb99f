use std::time::Duration;

use maxscale_core::clock::Timestamp;

use crate::job::JobStatus;

/// Why a job is where it is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Explanation {
    /// Where it is on its way.
    pub status: JobStatus,
    /// Its kind.
    pub kind: String,
    /// The version of its arguments.
    pub version: u32,
    /// The queue that it waits in.
    pub queue: String,
    /// Whose it is, if it was said.
    pub tenant: Option<String>,
    /// Its priority.
    pub priority: i64,
    /// When it is, or was, due.
    pub run_at: Timestamp,
    /// After how many failed attempts it is dead.
    pub max_attempts: u32,
    /// When it was asked to stop.
    pub cancelled_at: Option<Timestamp>,
    /// How its runs ended, the oldest first: a dozen or more of the last ones. A job
    /// that was done by its first run has none.
    pub history: Vec<Event>,
}

/// The end of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Event {
    /// When, by the database's clock.
    pub at: Timestamp,
    /// In which attempt.
    pub attempt: u32,
    /// `done`, `retried`, `dead`, `snoozed`, `continued`, `cancelled`, `handed_back`,
    /// `crashed` when its worker died or lost its lease, or `stray` when a reply was lost.
    pub how: String,
    /// How long it had run, by its worker.
    pub ran: Option<Duration>,
    /// What went wrong, the first 200 characters.
    pub error: Option<String>,
}
