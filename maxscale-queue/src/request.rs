use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::Extensions;
use maxscale_core::fact::{self, TraceContext, VirtualShard};
use maxscale_shard::Tx;

use crate::error::QueueError;
use crate::job::JobId;
use crate::store::{self, Facts};

/// One run of a job: its arguments, and what is known about the run.
pub struct JobRequest<J> {
    job: J,
    facts: Facts,
    completed: Arc<AtomicBool>,
    /// What layers around the handler know.
    known: Extensions,
}

// === impl JobRequest ===

impl<J> JobRequest<J> {
    pub(crate) fn new(job: J, facts: Facts, completed: Arc<AtomicBool>) -> Self {
        let mut known = Extensions::new();
        known.insert(facts.lease.shard);
        if let Some(trace) = &facts.trace {
            known.insert(trace.clone());
        }
        Self {
            job,
            facts,
            completed,
            known,
        }
    }

    /// The arguments.
    pub const fn job(&self) -> &J {
        &self.job
    }

    /// The job's name.
    pub const fn id(&self) -> JobId {
        self.facts.lease.job
    }

    /// Where the job, and what it was enqueued with, lives.
    pub const fn shard(&self) -> VirtualShard {
        self.facts.lease.shard
    }

    /// Which attempt this is, from 1. A run after a crash repeats its attempt.
    pub const fn attempt(&self) -> u32 {
        self.facts.attempt
    }

    /// The number of attempts after which a failed job is dead.
    pub const fn max_attempts(&self) -> u32 {
        self.facts.max_attempts
    }

    /// How often a worker died or lost its lease while running this job.
    pub const fn crashes(&self) -> u32 {
        self.facts.crashes
    }

    /// The version under which the arguments were written.
    pub const fn version(&self) -> u32 {
        self.facts.version
    }

    /// Rises with every claim of the job: effects elsewhere can be fenced by it.
    pub const fn token(&self) -> i64 {
        self.facts.lease.token
    }

    /// This run's place in its trace: the first attempt is part of the trace in
    /// which the job was enqueued, each later one begins a trace of its own with a
    /// link to that.
    pub const fn trace(&self) -> Option<&TraceContext> {
        self.facts.trace.as_ref()
    }

    /// Makes the job done within `tx`: its effect and its end in one transaction.
    ///
    /// Once `tx` is committed the outcome that the handler returns changes
    /// nothing any more. If the commit's outcome is unknown, return
    /// [`Outcome::Retry`](crate::Outcome::Retry): it takes hold only if the
    /// commit did not.
    ///
    /// # Errors
    ///
    /// Returns [`QueueError::StaleLease`] when the job is no longer this
    /// worker's: then roll back. [`QueueError::WrongShard`] when `tx` was begun
    /// for another virtual shard.
    pub async fn complete_in(&self, tx: &mut Tx) -> Result<(), QueueError> {
        let lease = &self.facts.lease;
        if tx.shard() != Some(lease.shard) {
            return Err(QueueError::WrongShard {
                job: lease.job,
                expected: lease.shard,
            });
        }
        if !store::complete(tx, lease).await? {
            return Err(QueueError::StaleLease { job: lease.job });
        }
        let completed = self.completed.clone();
        tx.after_commit(move || completed.store(true, Ordering::Release));
        Ok(())
    }
}

/// Without the arguments, which may be personal.
impl<J> fmt::Debug for JobRequest<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobRequest")
            .field("facts", &self.facts)
            .finish_non_exhaustive()
    }
}

/// A run starts with the facts [`VirtualShard`] and [`TraceContext`].
impl<J> fact::Facts for JobRequest<J> {
    fn fact<T: Clone + Send + Sync + 'static>(&self) -> Option<&T> {
        self.known.get()
    }

    fn add_fact<T: Clone + Send + Sync + 'static>(&mut self, fact: T) {
        self.known.insert(fact);
    }
}
