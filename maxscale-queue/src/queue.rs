use std::sync::Arc;
use std::time::Duration;

use maxscale_core::fact::VirtualShard;
use maxscale_core::id::IdGenerator;
use maxscale_shard::{Key, Node, NodeId, Router};
use tokio::sync::watch;

use crate::bell::Bell;
use crate::dead::DeadLetters;
use crate::error::QueueError;
use crate::explain::Explanation;
use crate::job::{JobId, JobStatus};
use crate::seal::Seals;
use crate::store;

/// Enqueues jobs and tells how they fare. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Queue(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    router: Router,
    ids: Arc<IdGenerator>,
    nodes: Vec<Served>,
    seals: Seals,
}

/// A node of the router's, as it was when the queue was made.
#[derive(Debug)]
struct Served {
    node: Node,
    bell: Bell,
}

/// How many jobs a statement ends at most.
const CHUNK: u32 = 1_000;

// === impl Queue ===

impl Queue {
    /// A queue over the router's nodes, which must have run [`MIGRATIONS`](crate::MIGRATIONS).
    pub fn new(router: Router, ids: Arc<IdGenerator>) -> Self {
        Self::with_seals(router, ids, Seals::default())
    }

    /// One that can seal arguments, and whose workers open them.
    ///
    /// Workers of programs that do not know of sealing take such jobs for undecodable:
    /// seal once none of them is left.
    #[cfg(feature = "seal")]
    #[cfg_attr(docsrs, doc(cfg(feature = "seal")))]
    pub fn with_keys(router: Router, ids: Arc<IdGenerator>, keys: impl crate::ArgsKeys) -> Self {
        Self::with_seals(router, ids, Seals::new(keys))
    }

    fn with_seals(router: Router, ids: Arc<IdGenerator>, seals: Seals) -> Self {
        let served = |node: &Node| Served {
            node: node.clone(),
            bell: Bell::new(),
        };
        let nodes = router.nodes().iter().map(served).collect();
        Self(Arc::new(Inner {
            router,
            ids,
            nodes,
            seals,
        }))
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

    /// All that is known about a job, with the ends of its last runs; `None` as for
    /// [`status`](Self::status).
    ///
    /// # Errors
    ///
    /// Returns [`QueueError::Shard`] when its shard cannot be asked.
    pub async fn explain(&self, id: JobId) -> Result<Option<Explanation>, QueueError> {
        let shard = self.router().shard(id.as_id())?;
        Ok(store::explain(&shard, id).await?)
    }

    /// Cancels a job; false if it has ended, or is none.
    ///
    /// One that waits is dead at once. One that runs is stopped by its worker within
    /// three tenths of a lease, at its next await, and is dead then: unless it was done
    /// before, which [`status`](Self::status) tells. It never runs again.
    ///
    /// # Errors
    ///
    /// Returns [`QueueError::Shard`] when its shard cannot be asked.
    pub async fn cancel(&self, id: JobId) -> Result<bool, QueueError> {
        let shard = self.router().shard(id.as_id())?;
        Ok(store::cancel(&shard, id).await?)
    }

    /// Ends all jobs that wait now and have the tag, on all nodes, as dead; gives their
    /// number. Those that run go on.
    ///
    /// # Errors
    ///
    /// Returns [`QueueError::Shard`] when a node cannot be asked; jobs of others may
    /// have been ended.
    pub async fn cancel_tagged(&self, tag: &str) -> Result<u64, QueueError> {
        let mut cancelled = 0;
        for Served { node, .. } in &self.0.nodes {
            loop {
                let ended = store::cancel_tagged(&node.background(), tag, CHUNK).await?;
                cancelled += ended;
                if ended < u64::from(CHUNK) {
                    break;
                }
            }
        }
        Ok(cancelled)
    }

    /// The jobs that are dead.
    pub fn dead(&self) -> DeadLetters {
        DeadLetters::new(self.clone())
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

    pub(crate) fn seals(&self) -> &Seals {
        &self.0.seals
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
        self.0.nodes[at].bell.heard()
    }

    /// Has all workers look at a node.
    pub(crate) fn ring(&self, at: usize) {
        let Served { node, bell } = &self.0.nodes[at];
        bell.ring(node);
    }

    /// Has this process's workers look at a node.
    pub(crate) fn ring_near(&self, at: usize) {
        self.0.nodes[at].bell.ring_near();
    }

    pub(crate) fn ids(&self) -> &IdGenerator {
        &self.0.ids
    }

    /// The place of the node that holds `shard` now, if it was there from the start.
    pub(crate) fn serving(&self, shard: VirtualShard) -> Option<usize> {
        let map = self.router().topology();
        self.place(&map.nodes()[map.locate(shard)?])
    }

    /// The place of a node, if it was there from the start.
    pub(crate) fn place(&self, node: &NodeId) -> Option<usize> {
        self.0
            .nodes
            .iter()
            .position(|served| served.node.id() == node)
    }
}
