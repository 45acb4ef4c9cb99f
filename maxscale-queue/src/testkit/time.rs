//! Time goes by when a test says so.

use std::time::Duration;

use crate::error::QueueError;
use crate::queue::Queue;
use crate::store;

/// Makes all that is enqueued, waits or lies there older, as if `time` had passed.
///
/// So what is due or expires within that time is due or has expired, what is kept for so
/// long is pruned by the next worker, and what was unique for so long is not any more.
/// Leases of workers, and moments in the texts of histories, stay as they are. It is for
/// databases that a test has for itself, while no worker runs:
///
/// ```no_run
/// # use maxscale_queue::{Queue, QueueError, Worker, WorkerBuilder, testkit};
/// # use std::time::Duration;
/// # fn worker(queue: &Queue) -> WorkerBuilder { Worker::builder(queue.clone()) }
/// # async fn test(queue: Queue) -> Result<(), QueueError> {
/// // What sends a reminder after a day was enqueued.
/// worker(&queue).drain().await?; // nothing is sent
/// testkit::pass(&queue, Duration::from_hours(24)).await?;
/// worker(&queue).drain().await?; // the reminder is sent
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// Returns [`QueueError::Shard`] when a node cannot be asked; time has passed on those
/// before it.
pub async fn pass(queue: &Queue, time: Duration) -> Result<(), QueueError> {
    for node in 0..queue.nodes() {
        store::pass(&queue.node(node).background(), time).await?;
    }
    Ok(())
}
