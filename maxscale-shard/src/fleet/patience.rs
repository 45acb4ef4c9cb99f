//! How long is waited between two attempts to reach databases.

use std::time::Duration;

use maxscale_core::control::{Attempt, Backoff, Retries, Retry};
use tokio::time::{Instant, sleep};

use crate::random::draw;

/// Quick at first; never so slow that a database that is back is kept waiting.
const PAUSES: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(500));

/// The attempts at something that may pass.
#[derive(Debug)]
pub(super) struct Patience(Retries);

// === impl Patience ===

impl Patience {
    pub(super) const fn without_end() -> Self {
        Self(Retries::new(PAUSES))
    }

    pub(super) const fn until(end: Instant) -> Self {
        Self(Retries::new(PAUSES).until(end))
    }

    /// Waits before the next attempt. False, and at once, if that was the last.
    ///
    /// Jittered: processes that lost the same database must not come back all at once.
    pub(super) async fn pause(&mut self) -> bool {
        let failed = Attempt::Failed { random: draw() };
        let (retry, next) = self.0.after(Instant::now(), failed);
        self.0 = next;
        let Retry::After(wait) = retry else {
            return false;
        };
        sleep(wait).await;
        true
    }
}

/// A fifth shorter at most: what was started together does not stay together.
pub(super) fn jitter(wait: Duration) -> Duration {
    wait.mul_f64(0.8 + 0.2 * draw())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn last_attempt_is_made_at_the_end() {
        let start = Instant::now();
        let mut patience = Patience::until(start + Duration::from_secs(3));
        let mut attempts = 1;
        while patience.pause().await {
            attempts += 1;
        }
        assert_eq!(start.elapsed(), Duration::from_secs(3));
        assert!((7..=15).contains(&attempts), "{attempts}");
    }
}
