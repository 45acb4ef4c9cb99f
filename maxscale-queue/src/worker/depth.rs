//! How much waits in each queue of a node, asked now and then.

use std::future::pending;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use maxscale_core::Chain;
use maxscale_core::meter::{self, Meter, Metric};
use maxscale_shard::Node;
use tokio::time::sleep;

use super::node::NodeWorker;
use crate::store::{self, Depth};

const DEPTH: Metric = Metric::new(
    "maxscale.queue.depth",
    "{job}",
    "Jobs that are due and wait, counted up to ten thousand. Each worker tells of all.",
);

const AGE: Metric = Metric::new(
    "maxscale.queue.age",
    "s",
    "How long the job has waited that is due the longest. Each worker tells of all.",
);

/// How often a node is asked.
const EVERY: Duration = Duration::from_secs(10);

/// What was found last of one queue; none while its node cannot be asked.
#[derive(Debug, Default)]
struct Found(Mutex<Option<Depth>>);

impl NodeWorker {
    /// Tells the meter how much waits on the node, if there is one.
    pub(super) async fn depths(&self, node: &Node) {
        let Some(meter) = &self.shared.meter else {
            return pending().await;
        };
        let queues = self.shared.queues.iter();
        let found: Vec<_> = queues
            .map(|(queue, _)| (*queue, Found::register(meter, queue, node)))
            .collect();
        loop {
            for (queue, found) in &found {
                let depth = store::depth(&node.background(), queue).await;
                if let Err(error) = &depth {
                    tracing::debug!(node = %node.id(), error = %Chain(error), "cannot count what waits");
                }
                found.set(depth.ok());
            }
            sleep(EVERY.mul_f64(0.8 + 0.2 * (self.shared.random)())).await;
        }
    }
}

// === impl Found ===

impl Found {
    fn register(meter: &Meter, queue: &str, node: &Node) -> Arc<Self> {
        let found = Arc::<Self>::default();
        let labels = [("queue", queue), ("node", node.id().as_str())];
        // The meter outlives the worker.
        let weak = Arc::downgrade(&found);
        meter::gauge(meter, DEPTH, &labels, {
            let weak = weak.clone();
            move || weak.upgrade()?.get().map(|depth| f64::from(depth.jobs))
        });
        meter::gauge(meter, AGE, &labels, move || {
            weak.upgrade()?
                .get()
                .map(|depth| depth.oldest.as_secs_f64())
        });
        found
    }

    fn set(&self, depth: Option<Depth>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = depth;
    }

    fn get(&self) -> Option<Depth> {
        // Each change is one write, so a panic elsewhere tears nothing.
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
