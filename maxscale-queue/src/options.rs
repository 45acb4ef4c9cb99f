use std::time::Duration;

use maxscale_core::clock::Timestamp;
use maxscale_core::fact::TraceContext;

use crate::error::QueueError;
use crate::job::JobId;
use crate::unique::Unique;

/// How a job is enqueued.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct EnqueueOptions {
    pub(crate) delay: Duration,
    pub(crate) run_at: Option<Timestamp>,
    pub(crate) expires: Option<Duration>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) priority: i16,
    pub(crate) tenant: Option<String>,
    pub(crate) unique: Option<Unique>,
    pub(crate) trace: Option<TraceContext>,
}

/// What became of an enqueue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "callers tell all three apart")]
pub enum Enqueued {
    /// There is a new job.
    Inserted(JobId),
    /// There is one already, which stays as it is.
    Duplicate(JobId),
    /// There was one already; it waits with the new arguments, time and priority.
    Replaced(JobId),
}

// === impl EnqueueOptions ===

impl EnqueueOptions {
    /// The longest name of a tenant, in bytes.
    pub const MAX_TENANT: usize = 256;
    /// The longest that a job may be put off, at enqueue and between runs: ten years.
    pub const MAX_DELAY: Duration = Duration::from_hours(10 * 365 * 24);

    /// The first attempt starts no earlier than this after the enqueue, or after
    /// [`run_at`](Self::run_at). Default: at once.
    pub const fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// The first attempt starts no earlier than this, by the database's clock.
    /// Default: at once.
    pub const fn run_at(mut self, time: Timestamp) -> Self {
        self.run_at = Some(time);
        self
    }

    /// A job that has not started this long after it could have is dead. Default: never.
    pub const fn expires(mut self, after: Duration) -> Self {
        self.expires = Some(after);
        self
    }

    /// A run that takes longer than this is stopped and counts as failed. Default:
    /// [`Job::TIMEOUT`](crate::Job::TIMEOUT).
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Of a tenant's jobs those of a higher priority come first: each level counts as
    /// much as a minute of waiting, so that none waits for ever. Default: 0.
    pub const fn priority(mut self, priority: i16) -> Self {
        self.priority = priority;
        self
    }

    /// Whose job it is, in at most [`MAX_TENANT`](Self::MAX_TENANT) bytes: workers
    /// take the jobs of tenants in turn, so that one with many delays few others.
    /// Default: the virtual shard's.
    pub fn tenant(mut self, tenant: impl Into<String>) -> Self {
        self.tenant = Some(tenant.into());
        self
    }

    /// Enqueues it only if there is none like it on its virtual shard. Default: always.
    pub fn unique(mut self, unique: Unique) -> Self {
        self.unique = Some(unique);
        self
    }

    /// What the job is caused by. Default: where the caller is, if it is
    /// [in a trace](TraceContext::current).
    pub fn trace(mut self, trace: TraceContext) -> Self {
        self.trace = Some(trace);
        self
    }

    pub(crate) fn check(&self) -> Result<(), QueueError> {
        let tenant = self.tenant.as_deref().unwrap_or_default();
        if tenant.len() > Self::MAX_TENANT {
            return Err(QueueError::LongTenant { size: tenant.len() });
        }
        if tenant.contains('\0') {
            return Err(QueueError::Nul { place: "tenant" });
        }
        let spans = [Some(self.delay), self.expires];
        if spans
            .into_iter()
            .flatten()
            .any(|span| span > Self::MAX_DELAY)
        {
            return Err(QueueError::TooFar);
        }
        if self.timeout.is_some_and(|timeout| timeout.is_zero()) {
            return Err(QueueError::NoTime);
        }
        Ok(())
    }
}

// === impl Enqueued ===

impl Enqueued {
    /// The job that there is now.
    pub const fn id(self) -> JobId {
        match self {
            Self::Inserted(id) | Self::Duplicate(id) | Self::Replaced(id) => id,
        }
    }
}
