//! What a stream that has no end of its own must hear.

use std::sync::Arc;

use tokio::sync::watch;

/// Whether the server is about to end: a fact of each request.
///
/// Server-sent events, WebSockets and gRPC streams have no end of their own and
/// would be cut off with the last of the budget. Let them end once this is told:
/// `stream.take_until(draining.wait())`.
#[derive(Clone, Debug)]
pub struct Draining(Arc<watch::Sender<bool>>);

// === impl Draining ===

impl Draining {
    /// A server that never ends, for tests of handlers.
    pub fn never() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }

    /// Whether it was told.
    pub fn is_draining(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until it is told. Owns what it needs, and may be cancelled.
    pub fn wait(&self) -> impl Future<Output = ()> + Send + Sync + use<> {
        let (held, mut told) = (self.clone(), self.0.subscribe());
        async move {
            // What is held is the sender, so that this cannot fail.
            let _ = told.wait_for(|told| *told).await;
            drop(held);
        }
    }

    pub(super) fn tell(&self) {
        self.0.send_replace(true);
    }
}
