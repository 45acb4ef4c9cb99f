use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use maxscale_core::clock::Timestamp;
use maxscale_core::fact::VirtualShard;
use maxscale_core::id::{Id, IdError};
use maxscale_core::refusal::{Asker, Class, Refusal, Refuse};
use maxscale_shard::Value;
use serde_core::Serialize;
use serde_core::de::DeserializeOwned;

use crate::dead::DeadReason;
use crate::failure::Failure;

/// A kind of work: its value is the arguments, stored as JSON.
///
/// # Examples: what does a job look like?
///
/// ```
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct Transcode {
///     media: String,
/// }
///
/// impl maxscale_queue::Job for Transcode {
///     const KIND: &'static str = "audio.transcode";
///     const MAX_ATTEMPTS: u32 = 8;
/// }
/// ```
pub trait Job: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// Names the kind in the database, for ever.
    const KIND: &'static str;
    /// Which queue it waits in.
    const QUEUE: &'static str = "default";
    /// After how many failed attempts it is dead.
    const MAX_ATTEMPTS: u32 = 5;
    /// Counts changes of the arguments' form. A worker that knows only an
    /// older version leaves the job to others.
    const VERSION: u32 = 1;
    /// How long a run may take: it is stopped then and counts as failed. `Duration::MAX`
    /// is no limit; zero is refused at enqueue.
    const TIMEOUT: Duration = Duration::from_hours(1);
    /// How long a job that is done can still be looked at.
    const RETAIN: Duration = Duration::from_hours(7 * 24);
    /// How long a job that is dead is kept among the [dead
    /// letters](crate::Queue::dead).
    const RETAIN_DEAD: Duration = Duration::from_hours(90 * 24);
}

/// Names a job; carries the virtual shard where it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(Id);

/// How a run of a job ended.
#[derive(Debug)]
#[non_exhaustive]
pub enum Outcome {
    /// The work is done.
    Done,
    /// The work is done, and this is worth keeping with the job, for as long as
    /// [`Job::RETAIN`]. Over [`Queue::MAX_ARGS`](crate::Queue::MAX_ARGS) it is left out.
    DoneWith(serde_json::Value),
    /// This attempt failed; try again later, or dead after the last attempt.
    Retry(Failure),
    /// No attempt can succeed. The reason is kept.
    Dead(String),
    /// The work is not wanted any more. The reason is kept.
    Cancel(String),
    /// A part of the work is done: run again, behind what waits already, with this as
    /// the [checkpoint](crate::JobRequest::checkpoint). Costs no attempt, however often.
    /// Over [`Queue::MAX_ARGS`](crate::Queue::MAX_ARGS) it is a failed attempt.
    Continue(serde_json::Value),
    /// Not now; run again after this time. Costs no attempt, however often.
    Snooze(Duration),
}

/// Where a job is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "callers tell all four apart")]
pub enum JobState {
    /// It waits: for a worker, for its time, or for its next attempt.
    Ready,
    /// A worker holds it.
    Running,
    /// It ended well.
    Done,
    /// It ended badly; see [`JobStatus::last_error`].
    Dead,
}

/// What is known about a job.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct JobStatus {
    /// Where it is on its way.
    pub state: JobState,
    /// Attempts begun, without those that were handed back or snoozed.
    pub attempt: u32,
    /// How often a worker died or lost its lease while running it.
    pub crashes: u32,
    /// Why the last attempt failed, or why the job is dead.
    pub last_error: Option<String>,
    /// Which way it died, if it is dead.
    pub dead: Option<DeadReason>,
    /// What [`JobRequest::progress`](crate::JobRequest::progress) told last.
    pub progress: Option<serde_json::Value>,
    /// What [`Outcome::DoneWith`] kept.
    pub result: Option<serde_json::Value>,
    /// When it was enqueued.
    pub created_at: Timestamp,
    /// When it came to its end.
    pub finished_at: Option<Timestamp>,
}

// === impl JobId ===

impl JobId {
    /// The id as every other id.
    pub const fn as_id(self) -> Id {
        self.0
    }

    /// The virtual shard where the job lives.
    pub fn shard(self) -> VirtualShard {
        self.0.shard()
    }
}

impl From<Id> for JobId {
    fn from(id: Id) -> Self {
        Self(id)
    }
}

impl From<JobId> for Value {
    fn from(id: JobId) -> Self {
        id.0.into()
    }
}

impl FromStr for JobId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        text.parse().map(Self)
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

// === impl Outcome ===

impl Outcome {
    /// How long a job is put off by a refusal that names no time.
    pub const DEFAULT_SNOOZE: Duration = Duration::from_secs(5);
}

/// A layer that is over a limit, or lacks what it needs, puts the job off and
/// costs it no attempt. Any other refusal is a failed attempt with that reason.
impl Refuse for Outcome {
    type Reply = Self;

    fn pass(self) -> Self {
        self
    }

    fn refuse(refusal: Refusal, _asker: &Asker) -> Self {
        match (refusal.wait(), refusal.class()) {
            (Some(wait), _) => Self::Snooze(wait),
            (None, Class::Limited | Class::Unavailable) => Self::Snooze(Self::DEFAULT_SNOOZE),
            (None, class) => Self::Retry(Failure::from(refusal).class(class)),
        }
    }
}

// === impl JobState ===

impl JobState {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Running => "running",
            Self::Done => "done",
            Self::Dead => "dead",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        [Self::Ready, Self::Running, Self::Done, Self::Dead]
            .into_iter()
            .find(|state| state.as_str() == text)
    }

    /// Whether nothing more will happen to the job.
    pub const fn is_end(self) -> bool {
        matches!(self, Self::Done | Self::Dead)
    }
}
