//! Verdicts that all processes of one Redis have together.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use crate::Chain;
use crate::clock::Clock;
use crate::limit::RedisLimits;
use crate::limit::marks::{Marks, SharedMarks};

/// What verdicts are called in Redis. There is one kind of them.
const KIND: &str = "reputation";
const ABOUT: &str = "suspicious";

pub(super) struct Verdicts {
    marks: Arc<Marks<()>>,
    shared: SharedMarks<()>,
    redis: RedisLimits,
    runtime: Handle,
}

// === impl Verdicts ===

impl Verdicts {
    pub(super) fn follow(redis: RedisLimits, clock: Clock) -> Arc<Self> {
        let marks = Arc::new(Marks::new(clock));
        Arc::new(Self {
            shared: SharedMarks::follow(redis.clone(), marks.clone(), KIND, |_| Some(())),
            runtime: Handle::current(),
            marks,
            redis,
        })
    }

    pub(super) fn is_suspicious(&self, principal: &str) -> bool {
        let tag = || self.redis.tag(principal);
        self.marks.get(ABOUT, tag).is_some()
    }

    pub(super) const fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Tells the others; false if they do not hear of it.
    pub(super) async fn tell(&self, principal: &str, time: Duration) -> bool {
        let tag = self.redis.tag(principal);
        match self.shared.set(ABOUT, tag, ((), ""), time).await {
            Ok(fits) => fits,
            Err(error) => {
                let cause = Chain(&error).to_string();
                tracing::debug!(cause, "others are not told who is suspicious");
                false
            }
        }
    }

    /// False if Redis did not take it.
    pub(super) async fn forgive(&self, principal: &str) -> bool {
        let tag = self.redis.tag(principal);
        self.shared.remove(ABOUT, tag).await.is_ok()
    }
}
