//! Queues stand still and go on.

use std::collections::BTreeSet;

use crate::error::QueueError;
use crate::options::check_name;
use crate::queue::Queue;
use crate::store;

impl Queue {
    /// The longest name of a queue, a kind or of keys, in bytes.
    pub const MAX_NAME: usize = 256;

    /// Has no job of `queue` start from now on, on any node, in any process; what runs
    /// comes to its end. It stays so until [`resume`](Self::resume). May be repeated.
    ///
    /// # Errors
    ///
    /// Returns [`QueueError::LongName`] or [`QueueError::Nul`] for what is no name, and
    /// [`QueueError::Shard`] when a node cannot be asked: others stand still by then.
    pub async fn pause(&self, queue: &str) -> Result<(), QueueError> {
        check_name("queue", queue)?;
        for at in 0..self.nodes() {
            store::pause(&self.node(at).background(), queue).await?;
        }
        Ok(())
    }

    /// Has jobs of `queue` start again. May be repeated.
    ///
    /// # Errors
    ///
    /// As [`pause`](Self::pause): others go on by then.
    pub async fn resume(&self, queue: &str) -> Result<(), QueueError> {
        check_name("queue", queue)?;
        for at in 0..self.nodes() {
            store::resume(&self.node(at).background(), queue).await?;
            self.ring(at);
        }
        Ok(())
    }

    /// The queues that are paused on any node, by name.
    ///
    /// # Errors
    ///
    /// Returns [`QueueError::Shard`] when a node cannot be asked.
    pub async fn paused(&self) -> Result<BTreeSet<String>, QueueError> {
        let mut paused = BTreeSet::new();
        for at in 0..self.nodes() {
            paused.extend(store::paused(&self.node(at).background()).await?);
        }
        Ok(paused)
    }
}
