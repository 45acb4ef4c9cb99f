use std::sync::Arc;
use std::time::Duration;

use maxscale_core::fact::{TraceContext, VirtualShard};
use maxscale_core::id::IdGenerator;
use maxscale_core::meter::span;
use maxscale_shard::{Key, Node, Router, Tx};
use tokio::sync::watch;
use tracing::Instrument as _;

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
    nodes: Vec<Served>,
}

/// A node of the router's, as it was when the queue was made.
#[derive(Debug)]
struct Served {
    node: Node,
    // A hint to workers of this process; others poll.
    doorbell: watch::Sender<()>,
}

/// `integer` in PostgreSQL holds no more.
const MOST_ATTEMPTS: u32 = i32::MAX.unsigned_abs();

// === impl Queue ===

impl Queue {
    /// The largest arguments, in bytes of JSON.
    pub const MAX_ARGS: usize = 64 * 1024;

    /// A queue over the router's nodes, which must have run [`MIGRATIONS`](crate::MIGRATIONS).
    pub fn new(router: Router, ids: Arc<IdGenerator>) -> Self {
        let served = |node: &Node| Served {
            node: node.clone(),
            doorbell: watch::Sender::new(()),
        };
        let nodes = router.nodes().iter().map(served).collect();
        Self(Arc::new(Inner { router, ids, nodes }))
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
        let span = span::enqueue(J::QUEUE, J::KIND);
        let mut options = options;
        options.trace = options
            .trace
            .or_else(|| span.in_scope(TraceContext::current));
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
        store::insert(tx, new).instrument(span).await?;
        if let Some(node) = self.serving(shard) {
            let queue = self.clone();
            tx.after_commit(move || queue.ring(node));
        }
        Ok(id)
    }

    /// What is known about a job; `None` if there is no such job on the shard in its id.
    ///
    /// # Errors
    ///
    /// Returns [`QueueError::Shard`] when its shard cannot be asked.
    pub async fn status(&self, id: JobId) -> Result<Option<JobStatus>, QueueError> {
        self.status_for(id.as_id(), id).await
    }

    /// What is known about a job that was enqueued on the shard of `key`.
    ///
    /// Of a key that an override puts on another node the job's id says nothing:
    /// this finds its jobs there.
    ///
    /// # Errors
    ///
    /// Returns [`QueueError::Shard`] when the key's shard cannot be asked.
    pub async fn status_for<'k>(
        &self,
        key: impl Into<Key<'k>>,
        id: JobId,
    ) -> Result<Option<JobStatus>, QueueError> {
        let shard = self.router().shard(key)?;
        Ok(store::find(&shard, id).await?)
    }

    /// How long the job of `queue` has waited that is due the longest, on any node
    /// that can be asked; none if no job is due. For a health check: when it grows,
    /// there are too few workers, or none for some kind of job.
    ///
    /// # Errors
    ///
    /// Returns [`QueueError::Shard`] when a node that is ready cannot be asked.
    pub async fn waited(&self, queue: &str) -> Result<Option<Duration>, QueueError> {
        let mut longest = None;
        for Served { node, .. } in &self.0.nodes {
            if node.is_ready() {
                longest = longest.max(store::waited(&node.background(), queue).await?);
            }
        }
        Ok(longest)
    }

    pub(crate) fn router(&self) -> &Router {
        &self.0.router
    }

    /// How many nodes there were when the queue was made.
    pub(crate) fn nodes(&self) -> usize {
        self.0.nodes.len()
    }

    pub(crate) fn node(&self, at: usize) -> &Node {
        &self.0.nodes[at].node
    }

    pub(crate) fn doorbell(&self, at: usize) -> watch::Receiver<()> {
        self.0.nodes[at].doorbell.subscribe()
    }

    /// Has this process's workers look at a node.
    pub(crate) fn ring(&self, at: usize) {
        self.0.nodes[at].doorbell.send_replace(());
    }

    /// The place of the node that holds `shard` now, if it was there from the start.
    fn serving(&self, shard: VirtualShard) -> Option<usize> {
        let map = self.router().topology();
        let place = map.locate(shard)?;
        let id = &map.nodes()[place];
        let is_it = |served: &Served| served.node.id() == id;
        // Its place in the map, unless the map has changed since.
        if self.0.nodes.get(place).is_some_and(is_it) {
            return Some(place);
        }
        self.0.nodes.iter().position(is_it)
    }
}
