//! What somebody waited, but for the time that the machine had for nobody.

use std::sync::LazyLock;
use std::time::Duration;

use maxscale_tests::Lateness;
use tokio::time::Instant;

static LATENESS: LazyLock<Lateness> = LazyLock::new(Lateness::watch);

/// Runs since it was begun.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waited {
    since: Instant,
    late: Duration,
}

// === impl Waited ===

impl Waited {
    pub(crate) fn begin() -> Self {
        Self {
            since: Instant::now(),
            late: LATENESS.total(),
        }
    }

    pub(crate) fn so_far(&self) -> Duration {
        let late = LATENESS.total() - self.late;
        self.since.elapsed().saturating_sub(late)
    }
}
