//! How many processes count together, for the share of each while Redis is down.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::limit::RedisLimits;

/// How often a process says that it lives.
const EVERY: Duration = Duration::from_secs(5);

/// The same until it was heard for the first time.
const SOON: Duration = Duration::from_millis(100);

/// The last number known stays while Redis is down.
pub(super) struct Instances {
    known: Arc<AtomicU32>,
    task: JoinHandle<()>,
}

// === impl Instances ===

impl Instances {
    pub(super) fn start(redis: &RedisLimits) -> Self {
        let known = Arc::new(AtomicU32::new(1));
        let (told, redis) = (known.clone(), redis.clone());
        let task = tokio::spawn(async move {
            let own = uuid::Uuid::new_v4().simple().to_string();
            let mut pause = SOON;
            loop {
                if let Ok(count) = redis.heartbeat(&own, 3 * EVERY).await {
                    told.store(count.max(1), Ordering::Relaxed);
                    pause = EVERY;
                }
                sleep(pause).await;
            }
        });
        Self { known, task }
    }

    pub(super) fn count(&self) -> u32 {
        self.known.load(Ordering::Relaxed)
    }
}

impl Drop for Instances {
    fn drop(&mut self) {
        self.task.abort();
    }
}
