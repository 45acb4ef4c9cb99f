use std::sync::Arc;

use maxscale_core::id::IdGenerator;
use maxscale_shard::{Router, Tx};
use tokio::sync::watch;

use crate::error::QueueError;
use crate::job::{EnqueueOptions, Job, JobId, JobStatus};
use crate::store::{self, NewJob};

/// Enqueues jobs and tells how they fare. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Queue(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    router: Router,
    ids: Arc<IdGenerator>,
    // One per node. A hint to workers of this process; others poll.
    doorbells: Vec<watch::Sender<()>>,
}

/// `integer` in PostgreSQL holds no more.
const MOST_ATTEMPTS: u32 = i32::MAX.unsigned_abs();

// === impl Queue ===

impl Queue {
    /// The largest arguments, in bytes of JSON.
    pub const MAX_ARGS: usize = 64 * 1024;

    /// A queue over the router's nodes, which must have run [`MIGRATIONS`](crate::MIGRATIONS).
    pub fn new(router: Router, ids: Arc<IdGenerator>) -> Self {
        let doorbells = (router.nodes().iter())
            .map(|_| watch::Sender::new(()))
            .collect();
        Self(Arc::new(Inner {
            router,
            ids,
            doorbells,
        }))
    }

    /// Enqueues `job` as part of `tx`, on the virtual shard that `tx` was begun for.
    ///
    /// The job exists when `tx` is committed, and never otherwise.
    ///
    /// # Errors
    ///
    /// Returns [`QueueError::NoShard`] for a transaction without a virtual
    /// shard, [`QueueError::TooLarge`] for arguments over [`Queue::MAX_ARGS`].
    pub async fn enqueue_in<J: Job>(
        &self,
        tx: &mut Tx,
        job: &J,
        options: EnqueueOptions,
    ) -> Result<JobId, QueueError> {
        let shard = tx.shard().ok_or(QueueError::NoShard)?;
        let args = serde_json::to_string(job).map_err(|source| QueueError::Encode {
            kind: J::KIND,
            source,
        })?;
        if args.len() > Self::MAX_ARGS {
            return Err(QueueError::TooLarge {
                size: args.len(),
                limit: Self::MAX_ARGS,
            });
        }
        let id = JobId::from(self.0.ids.draw(shard));
        let new = NewJob {
            shard,
            id,
            kind: J::KIND,
            version: J::VERSION,
            queue: J::QUEUE,
            args,
            max_attempts: J::MAX_ATTEMPTS.min(MOST_ATTEMPTS),
            options,
        };
        store::insert(tx, new).await?;
        if let Some(node) = self.router().topology().locate(shard) {
            let inner = self.0.clone();
            tx.after_commit(move || {
                inner.doorbells[node].send_replace(());
            });
        }
        Ok(id)
    }

    /// What is known about a job; `None` if there is no such job.
    ///
    /// # Errors
    ///
    /// Returns [`QueueError::Shard`] when its shard cannot be asked.
    pub async fn status(&self, id: JobId) -> Result<Option<JobStatus>, QueueError> {
        let shard = self.router().shard(id.as_id())?;
        Ok(store::find(&shard, id).await?)
    }

    pub(crate) fn router(&self) -> &Router {
        &self.0.router
    }

    pub(crate) fn doorbell(&self, node: usize) -> watch::Receiver<()> {
        self.0.doorbells[node].subscribe()
    }
}
