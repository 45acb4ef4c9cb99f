//! Moments as plain numbers, so that they fit into an atomic.

use std::time::Duration;

use tokio::time::Instant;

/// Counts microseconds from the moment it was made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticks(Instant);

// === impl Ticks ===

impl Ticks {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    /// Now; never 0, which means "never" to whoever keeps such a number.
    #[inline]
    pub(crate) fn now(self) -> u64 {
        let span = self.0.elapsed();
        // In 64 bits: a process runs for less than half a million years.
        span.as_secs() * 1_000_000 + u64::from(span.subsec_micros()) + 1
    }
}

/// A span in the same unit.
pub(crate) fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}
