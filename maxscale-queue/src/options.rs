use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::time::Duration;

use maxscale_core::clock::Timestamp;
use maxscale_core::fact::TraceContext;

use crate::error::QueueError;
use crate::job::JobId;
use crate::queue::Queue;
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
    pub(crate) tags: BTreeSet<String>,
    pub(crate) seal: Option<String>,
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
    /// The most tags of a job.
    pub const MAX_TAGS: usize = 8;
    /// The longest tag, in bytes.
    pub const MAX_TAG: usize = 128;
    /// The longest that a job may be put off, at enqueue and between runs: ten years.
    pub const MAX_DELAY: Duration = Duration::from_hours(10 * 365 * 24);

    /// Moments that stay numbers whatever is added to them.
    const MOMENTS: RangeInclusive<i64> = 0..=i64::MAX / 4;

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

    /// Adds a tag, of 1 to [`MAX_TAG`](Self::MAX_TAG) bytes and at most
    /// [`MAX_TAGS`](Self::MAX_TAGS) of them, by which jobs are
    /// [cancelled](crate::Queue::cancel_tagged) and [dead
    /// letters](crate::DeadFilter::tag) found. Default: none.
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tags.insert(tag.into());
        self
    }

    /// Seals the arguments in the job's row under the keys of `reference`, as a user's
    /// id, which is stored beside them in at most
    /// [`Queue::MAX_NAME`](crate::Queue::MAX_NAME) bytes. They are bound to queue,
    /// kind and job. The hash of a [unique](Self::unique) job is not sealed. Default:
    /// they are stored as they are.
    #[cfg(feature = "seal")]
    #[cfg_attr(docsrs, doc(cfg(feature = "seal")))]
    pub fn seal(mut self, reference: impl Into<String>) -> Self {
        self.seal = Some(reference.into());
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
        let far = (self.run_at).is_some_and(|time| !Self::MOMENTS.contains(&time.as_micros()));
        if far {
            return Err(QueueError::TooFar);
        }
        if let Some(reference) = &self.seal {
            check_name("key reference", reference)?;
        }
        let wrong = |tag: &String| tag.is_empty() || tag.len() > Self::MAX_TAG;
        if self.tags.len() > Self::MAX_TAGS || self.tags.iter().any(wrong) {
            return Err(QueueError::Tags);
        }
        if self.tags.iter().any(|tag| tag.contains('\0')) {
            return Err(QueueError::Nul { place: "tag" });
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

/// Refuses what is too long for a name, and what cannot be stored.
pub(crate) fn check_name(place: &'static str, name: &str) -> Result<(), QueueError> {
    if name.len() > Queue::MAX_NAME {
        let size = name.len();
        return Err(QueueError::LongName { place, size });
    }
    if name.contains('\0') {
        return Err(QueueError::Nul { place });
    }
    Ok(())
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
