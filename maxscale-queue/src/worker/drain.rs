//! Runs what is due, and comes to an end: for tests.

use maxscale_shard::ShardError;
use tokio::time::{Duration, sleep};

use super::{Shared, WorkerBuilder};
use crate::error::QueueError;
use crate::queue::Queue;
use crate::store;

/// How soon it is looked again whether something is due.
const AGAIN: Duration = Duration::from_millis(2);
/// How long the worker has for its end, with nothing left to run.
const GRACE: Duration = Duration::from_secs(60);
const BATCH: u32 = 1_000;

impl WorkerBuilder {
    /// Runs what is due, and what that enqueues, until nothing is; for tests.
    ///
    /// It is the worker that runs in production, for as long as that takes. Jobs without
    /// a handler here, on queues that are paused or due only later stay as they are:
    /// [`testkit::pass`](crate::testkit::pass) lets time go by. What is dead then is among
    /// the [dead letters](Queue::dead), what had expired too, and what was kept for long
    /// enough is gone, up to a thousand rows of each kind and node.
    ///
    /// It does not end while jobs enqueue jobs for ever, and waits for a virtual shard
    /// that is frozen. Dropped it leaves what runs to the end of its lease, as a worker
    /// that was killed.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start), and [`QueueError::Shard`] when a node cannot be asked.
    ///
    /// # Panics
    ///
    /// Panics outside a tokio runtime.
    #[cfg_attr(docsrs, doc(cfg(feature = "testkit")))]
    pub async fn drain(self) -> Result<(), QueueError> {
        let queue = self.queue.clone();
        for node in 0..queue.nodes() {
            while store::expire(&queue.node(node).background(), BATCH).await? > 0 {}
        }
        let (most, (worker, shared)) = (self.concurrency, self.launch()?);
        let drained = shared.nothing_due(&queue, most).await;
        worker.shutdown(GRACE).await;
        for node in 0..queue.nodes() {
            let node = queue.node(node).background();
            store::prune(&node, BATCH).await?;
        }
        Ok(drained?)
    }
}

// === impl Shared ===

impl Shared {
    /// Waits until nothing is due on any node, and nothing runs that could enqueue.
    async fn nothing_due(&self, queue: &Queue, slots: usize) -> Result<(), ShardError> {
        let slots = u32::try_from(slots).unwrap_or(u32::MAX);
        loop {
            // With all of them here nothing runs or is claimed, so one look at each node will do.
            let still = self.slots.acquire_many(slots).await;
            if !self.is_due(queue).await? {
                return Ok(());
            }
            drop(still);
            sleep(AGAIN).await;
        }
    }

    async fn is_due(&self, queue: &Queue) -> Result<bool, ShardError> {
        for node in 0..queue.nodes() {
            let node = queue.node(node).background();
            for (name, kinds) in &self.queues {
                if store::due(&node, name, kinds).await? {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}
