//! Jobs enter: one in the caller's transaction, one alone, or many.

use std::collections::HashMap;

use maxscale_core::fact::{TraceContext, VirtualShard};
use maxscale_core::meter::span;
use maxscale_shard::{Key, Node, NodeId, Shard, Tx};
use serde_json::Value;
use tracing::Instrument as _;

use crate::error::QueueError;
use crate::job::{Job, JobId};
use crate::options::{EnqueueOptions, Enqueued, check_name};
use crate::queue::Queue;
use crate::seal::Seals;
use crate::slot;
use crate::store::{self, Common, NewJob};

/// `integer` in PostgreSQL holds no more.
const MOST_ATTEMPTS: u32 = i32::MAX.unsigned_abs();

/// How many jobs a statement stores at most.
const CHUNK: usize = 1_000;

/// Jobs for one node.
struct Batch {
    node: Node,
    jobs: Vec<Placed>,
}

/// A job with its place among all.
struct Placed {
    at: usize,
    shard: Shard,
    new: NewJob,
}

// === impl Queue ===

impl Queue {
    /// The largest arguments, in bytes of JSON.
    pub const MAX_ARGS: usize = 64 * 1024;

    /// Enqueues `job` as part of `tx`, on the virtual shard that `tx` was begun for.
    ///
    /// The job exists when `tx` is committed, and never otherwise.
    ///
    /// # Errors
    ///
    /// Returns [`QueueError::NoShard`] for a transaction without a virtual shard,
    /// as one of the catalog is, [`QueueError::TooLarge`] for arguments over
    /// [`Queue::MAX_ARGS`], and [`QueueError::LongTenant`], [`QueueError::Nul`],
    /// [`QueueError::TooFar`] or [`QueueError::NoTime`] for options that cannot be stored.
    pub async fn enqueue_in<J: Job>(
        &self,
        tx: &mut Tx,
        job: &J,
        options: EnqueueOptions,
    ) -> Result<Enqueued, QueueError> {
        let shard = tx.shard().ok_or(QueueError::NoShard)?;
        let span = span::enqueue(J::QUEUE, J::KIND);
        let common = common::<J>(options, self.seals(), &span)?;
        let new = self.new_job(shard, job, &common)?;
        let enqueued = store::enqueue(tx, &common, &new).instrument(span).await?;
        if let Some(node) = self.serving(shard) {
            let queue = self.clone();
            tx.after_commit(move || queue.ring(node));
        }
        Ok(enqueued)
    }

    /// Enqueues `job` on the virtual shard of `key`, in no transaction of the caller's.
    ///
    /// # Errors
    ///
    /// As [`enqueue_in`](Self::enqueue_in). With [`QueueError::Shard`] the job may have
    /// been stored where the [outcome is
    /// unknown](maxscale_shard::ShardError::OutcomeUnknown).
    pub async fn enqueue<'k, J: Job>(
        &self,
        key: impl Into<Key<'k>>,
        job: &J,
        options: EnqueueOptions,
    ) -> Result<Enqueued, QueueError> {
        let shard = self.router().shard(key)?;
        self.enqueue_at(&shard, job, options).await
    }

    /// Enqueues `job` on a virtual shard that is drawn for it: work that is nobody's.
    ///
    /// # Errors
    ///
    /// As [`enqueue`](Self::enqueue).
    pub async fn enqueue_anywhere<J: Job>(
        &self,
        job: &J,
        options: EnqueueOptions,
    ) -> Result<Enqueued, QueueError> {
        let drawn = self.ids().draw_anywhere(self.router().shards());
        let shard = self.router().virtual_shard(drawn.shard())?;
        self.enqueue_at(&shard, job, options).await
    }

    /// Enqueues many jobs, each on the virtual shard of its key: one statement for up to
    /// a thousand of a node. Gives what became of each, in their order.
    ///
    /// It is not one transaction: those of a statement are stored together. Unique
    /// jobs are stored one by one, in an order in which two calls do not block each
    /// other.
    ///
    /// # Errors
    ///
    /// As [`enqueue_in`](Self::enqueue_in) before anything is stored, and
    /// [`QueueError::Partly`] once a statement failed; others are tried no more.
    pub async fn enqueue_many<'k, J: Job, K: Into<Key<'k>>>(
        &self,
        jobs: impl IntoIterator<Item = (K, &'k J)>,
        options: EnqueueOptions,
    ) -> Result<Vec<Enqueued>, QueueError> {
        let span = span::enqueue(J::QUEUE, J::KIND);
        let common = common::<J>(options, self.seals(), &span)?;
        let mut batches: HashMap<NodeId, Batch> = HashMap::new();
        for (at, (key, job)) in jobs.into_iter().enumerate() {
            let shard = self.router().shard(key)?;
            let new = self.new_job(shard.id(), job, &common)?;
            let batch = (batches.entry(shard.node().id().clone())).or_insert_with(|| Batch {
                node: shard.node().clone(),
                jobs: Vec::new(),
            });
            batch.jobs.push(Placed { at, shard, new });
        }
        let mut stored = Vec::new();
        for batch in batches.into_values() {
            let entered = self.enter(batch, &common, &mut stored);
            if let Err(error) = entered.instrument(span.clone()).await {
                if stored.is_empty() {
                    return Err(error);
                }
                let stored = stored
                    .iter()
                    .map(|(at, new): &(usize, Enqueued)| (*at, new.id()));
                return Err(QueueError::Partly {
                    stored: stored.collect(),
                    source: Box::new(error),
                });
            }
        }
        stored.sort_unstable_by_key(|(at, _)| *at);
        Ok(stored.into_iter().map(|(_, enqueued)| enqueued).collect())
    }

    async fn enqueue_at<J: Job>(
        &self,
        shard: &Shard,
        job: &J,
        options: EnqueueOptions,
    ) -> Result<Enqueued, QueueError> {
        if options.unique.is_some() {
            let mut tx = shard.begin().await?;
            let enqueued = self.enqueue_in(&mut tx, job, options).await?;
            tx.commit().await?;
            return Ok(enqueued);
        }
        let span = span::enqueue(J::QUEUE, J::KIND);
        let common = common::<J>(options, self.seals(), &span)?;
        let new = self.new_job(shard.id(), job, &common)?;
        store::insert(shard, &common, &new).instrument(span).await?;
        if let Some(at) = self.place(shard.node().id()) {
            self.ring(at);
        }
        Ok(Enqueued::Inserted(new.id))
    }

    async fn enter(
        &self,
        batch: Batch,
        common: &Common,
        stored: &mut Vec<(usize, Enqueued)>,
    ) -> Result<(), QueueError> {
        let Batch { node, mut jobs } = batch;
        if common.unique.is_some() {
            jobs.sort_unstable_by(|a, b| {
                let keys = (&a.new.key, &b.new.key);
                a.shard.id().cmp(&b.shard.id()).then(keys.0.cmp(keys.1))
            });
            for Placed { at, shard, new } in jobs {
                let mut tx = shard.begin().await?;
                let enqueued = store::enqueue(&mut tx, common, &new).await?;
                tx.commit().await?;
                stored.push((at, enqueued));
            }
        } else {
            let mut jobs = jobs.into_iter().map(|job| (job.at, job.new)).peekable();
            while jobs.peek().is_some() {
                let (places, chunk): (Vec<_>, Vec<_>) = jobs.by_ref().take(CHUNK).unzip();
                store::insert_many(node.database(), common, &chunk).await?;
                let inserted = chunk.iter().map(|new| Enqueued::Inserted(new.id));
                stored.extend(places.into_iter().zip(inserted));
            }
        }
        if let Some(at) = self.place(node.id()) {
            self.ring(at);
        }
        Ok(())
    }

    fn new_job<J: Job>(
        &self,
        shard: VirtualShard,
        job: &J,
        common: &Common,
    ) -> Result<NewJob, QueueError> {
        let encode = |source| QueueError::Encode {
            kind: J::KIND,
            source,
        };
        let args = serde_json::to_string(job).map_err(encode)?;
        if args.len() > Self::MAX_ARGS {
            return Err(QueueError::TooLarge {
                size: args.len(),
                limit: Self::MAX_ARGS,
            });
        }
        let key = match &common.unique {
            Some(unique) => {
                let args: Value = serde_json::from_str(&args).map_err(encode)?;
                Some(unique.key(J::KIND, &args))
            }
            None => None,
        };
        let slot = match &common.tenant {
            Some(tenant) => slot::of_tenant(tenant),
            None => slot::of_shard(shard),
        };
        let id = JobId::from(self.ids().draw(shard));
        // A job that takes the place of another has its arguments sealed for that one.
        let replaces = common.unique.as_ref().is_some_and(|unique| unique.replace);
        Ok(NewJob {
            shard,
            id,
            args: common.stored(id, &args)?,
            plain: replaces.then_some(args),
            slot,
            key,
        })
    }
}

fn common<J: Job>(
    options: EnqueueOptions,
    seals: &Seals,
    span: &tracing::Span,
) -> Result<Common, QueueError> {
    options.check()?;
    if J::TIMEOUT.is_zero() {
        return Err(QueueError::NoTime);
    }
    for (place, name) in [("kind", J::KIND), ("queue", J::QUEUE)] {
        check_name(place, name)?;
    }
    Ok(Common {
        kind: J::KIND,
        version: J::VERSION,
        queue: J::QUEUE,
        max_attempts: J::MAX_ATTEMPTS.min(MOST_ATTEMPTS),
        retain: J::RETAIN,
        retain_dead: J::RETAIN_DEAD,
        trace: (options.trace).or_else(|| span.in_scope(TraceContext::current)),
        run_at: options.run_at,
        delay: options.delay,
        expires: options.expires,
        timeout: options.timeout,
        priority: options.priority,
        tenant: options.tenant,
        tags: options.tags,
        unique: options.unique,
        seal: seals.find(options.seal.as_deref())?,
    })
}
