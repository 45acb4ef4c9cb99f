//! Hears what other processes put on a node.

use std::time::Duration;

use maxscale_core::Chain;
use maxscale_shard::Node;
use tokio::time::sleep;

use super::node::NodeWorker;
use crate::store;

/// How long nothing is heard once a connection was lost; the node is polled meanwhile.
const DEAF: Duration = Duration::from_secs(2);

impl NodeWorker {
    /// Wakes the claims whenever the node announces something; never ends. It takes one
    /// connection of its own where the node announces anything.
    pub(super) async fn hears(&self, node: &Node) {
        loop {
            // Asked for each time: another server may be the primary by now.
            match node.primary().announcements(store::CHANNEL).await {
                Ok(Some(mut announcements)) => {
                    // Whatever was announced before is not.
                    self.queue.ring_near(self.node);
                    while announcements.next().await.is_ok() {
                        self.queue.ring_near(self.node);
                    }
                }
                Ok(None) => std::future::pending().await,
                Err(error) => {
                    tracing::debug!(node = %node.id(), error = %Chain(&error), "hears nothing");
                }
            }
            sleep(DEAF.mul_f64(0.5 + 0.5 * (self.shared.random)())).await;
        }
    }
}
