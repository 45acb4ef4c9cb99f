use std::future::pending;

use tokio::sync::watch;

/// Tells what a handler has begun elsewhere, as a thread that computes, that nobody
/// waits for it any more. Cheap to clone.
///
/// The handler itself is dropped at its next await when its job is cancelled, takes too
/// long or loses its lease, and when the worker shuts down.
#[derive(Clone, Debug)]
pub struct Cancellation(watch::Receiver<bool>);

/// Cancels.
#[derive(Debug)]
pub(crate) struct Canceller(watch::Sender<bool>);

// === impl Cancellation ===

impl Cancellation {
    /// Whether the run was stopped.
    pub fn is_cancelled(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until the run is stopped; for ever if it comes to its own end.
    ///
    /// Safe to drop.
    pub async fn cancelled(&self) {
        if self
            .0
            .clone()
            .wait_for(|cancelled| *cancelled)
            .await
            .is_err()
        {
            pending().await
        }
    }
}

// === impl Canceller ===

impl Canceller {
    pub(crate) fn new() -> (Self, Cancellation) {
        let (cancel, cancelled) = watch::channel(false);
        (Self(cancel), Cancellation(cancelled))
    }

    pub(crate) fn cancel(&self) {
        self.0.send_replace(true);
    }
}
