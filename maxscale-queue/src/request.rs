use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::Extensions;
use maxscale_core::fact::{self, TraceContext, VirtualShard};
use maxscale_shard::{Database, Tx};
use serde_json::Value;

use crate::cancellation::Cancellation;
use crate::error::QueueError;
use crate::job::JobId;
use crate::store::{self, Facts, Lease};

/// One run of a job: its arguments, and what is known about the run.
pub struct JobRequest<J> {
    job: J,
    held: Held,
    checkpoint: Option<Value>,
    /// What layers around the handler know.
    known: Extensions,
}

/// A run as its worker holds it.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) facts: Facts,
    pub(crate) completed: Arc<AtomicBool>,
    pub(crate) cancellation: Cancellation,
    /// Where its row is.
    pub(crate) node: Database,
}

// === impl JobRequest ===

impl<J> JobRequest<J> {
    pub(crate) fn new(job: J, held: Held) -> Result<Self, serde_json::Error> {
        let mut known = Extensions::new();
        let facts = &held.facts;
        known.insert(facts.lease.shard);
        if let Some(trace) = &facts.trace {
            known.insert(trace.clone());
        }
        let checkpoint = facts.checkpoint.as_deref().map(serde_json::from_str);
        Ok(Self {
            job,
            checkpoint: checkpoint.transpose()?,
            held,
            known,
        })
    }

    pub(crate) const fn held(&self) -> &Held {
        &self.held
    }

    /// The arguments.
    pub const fn job(&self) -> &J {
        &self.job
    }

    /// The job's name.
    pub const fn id(&self) -> JobId {
        self.held.facts.lease.job
    }

    /// Where the job, and what it was enqueued with, lives.
    pub const fn shard(&self) -> VirtualShard {
        self.held.facts.lease.shard
    }

    /// Which attempt this is, from 1. A run after a crash repeats its attempt.
    pub const fn attempt(&self) -> u32 {
        self.held.facts.attempt
    }

    /// The number of attempts after which a failed job is dead.
    pub const fn max_attempts(&self) -> u32 {
        self.held.facts.max_attempts
    }

    /// How often a worker died or lost its lease while running this job.
    pub const fn crashes(&self) -> u32 {
        self.held.facts.crashes
    }

    /// The version under which the arguments were written.
    pub const fn version(&self) -> u32 {
        self.held.facts.version
    }

    /// Rises with every claim of the job: effects elsewhere can be fenced by it.
    pub const fn token(&self) -> i64 {
        self.held.facts.lease.token
    }

    /// What the last run returned as [`Outcome::Continue`](crate::Outcome::Continue).
    pub const fn checkpoint(&self) -> Option<&Value> {
        self.checkpoint.as_ref()
    }

    /// Tells what the handler begins elsewhere when it is stopped.
    pub const fn cancellation(&self) -> &Cancellation {
        &self.held.cancellation
    }

    /// This run's place in its trace: the first attempt is part of the trace in
    /// which the job was enqueued, each later one begins a trace of its own with a
    /// link to that.
    pub const fn trace(&self) -> Option<&TraceContext> {
        self.held.facts.trace.as_ref()
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
        let lease = self.lease_in(tx)?;
        if !store::complete(tx, lease).await? {
            return Err(QueueError::StaleLease { job: lease.job });
        }
        let completed = self.held.completed.clone();
        tx.after_commit(move || completed.store(true, Ordering::Release));
        Ok(())
    }
}

impl<J> JobRequest<J> {
    /// The lease, if `tx` is where the job lives.
    pub(crate) fn lease_in(&self, tx: &Tx) -> Result<&Lease, QueueError> {
        let lease = &self.held.facts.lease;
        if tx.shard() == Some(lease.shard) {
            return Ok(lease);
        }
        Err(QueueError::WrongShard {
            job: lease.job,
            expected: lease.shard,
        })
    }
}

/// Without the arguments, which may be personal.
impl<J> fmt::Debug for JobRequest<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobRequest")
            .field("facts", &self.held.facts)
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
