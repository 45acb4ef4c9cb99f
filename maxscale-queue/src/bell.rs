//! Tells workers that a node has something: those of this process at once, those of
//! others through the database. A hint: who hears nothing polls.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use maxscale_core::Chain;
use maxscale_shard::Node;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::store;

/// A node's bell.
#[derive(Debug)]
pub(crate) struct Bell {
    near: watch::Sender<()>,
    far: Arc<AtomicU8>,
}

/// A task that rings far away, as long as it runs.
struct Ringing {
    far: Arc<AtomicU8>,
    ended: bool,
}

/// Nobody rings far away.
const STILL: u8 = 0;
/// Somebody does.
const RINGS: u8 = 1;
/// And shall do it again.
const AGAIN: u8 = 2;

/// Each announcement takes a lock of the whole database as it commits: from one
/// process there is one in this time, however many jobs it enqueues.
const GAP: Duration = Duration::from_millis(5);

// === impl Bell ===

impl Bell {
    pub(crate) fn new() -> Self {
        Self {
            near: watch::Sender::new(()),
            far: Arc::new(AtomicU8::new(STILL)),
        }
    }

    /// Heard by workers of this process, whoever rings.
    pub(crate) fn heard(&self) -> watch::Receiver<()> {
        self.near.subscribe()
    }

    /// Has this process's workers look at the node.
    pub(crate) fn ring_near(&self) {
        self.near.send_replace(());
    }

    /// Has all workers look at it. Outside a tokio runtime, those of this process.
    pub(crate) fn ring(&self, node: &Node) {
        self.ring_near();
        if !store::announces(node.database()) {
            return;
        }
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        if self.far.swap(AGAIN, Ordering::AcqRel) == STILL {
            let node = node.clone();
            let ringing = Ringing {
                far: self.far.clone(),
                ended: false,
            };
            // Ends by itself, a statement and a moment after the last ring.
            runtime.spawn(async move { ringing.go_on(&node).await });
        }
    }
}

// === impl Ringing ===

impl Ringing {
    async fn go_on(mut self, node: &Node) {
        loop {
            self.far.store(RINGS, Ordering::Release);
            if let Err(error) = store::announce(&node.background()).await {
                tracing::debug!(node = %node.id(), error = %Chain(&error), "cannot ring");
            }
            sleep(GAP).await;
            let quiet =
                (self.far).compare_exchange(RINGS, STILL, Ordering::AcqRel, Ordering::Acquire);
            if quiet.is_ok() {
                self.ended = true;
                return;
            }
        }
    }
}

/// A task that is dropped midway, with its runtime, leaves the bell to the next.
impl Drop for Ringing {
    fn drop(&mut self) {
        if !self.ended {
            self.far.store(STILL, Ordering::Release);
        }
    }
}
