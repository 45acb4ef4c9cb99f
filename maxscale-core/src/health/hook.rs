//! Who is told of a check that goes down or comes up.
//!
//! Checks leave a change in a channel and go on. A task per hook takes it out
//! and calls the hook where it may block.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::task::spawn_blocking;

use super::Status;

/// How many changes wait for a hook that does not keep up.
const WAITING: usize = 256;

/// The hooks of one registry; their tasks end with it.
#[derive(Debug, Default)]
pub(super) struct Hooks(Mutex<Vec<Sender<Change>>>);

/// One change of one check.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) name: Arc<str>,
    pub(super) from: Status,
    pub(super) to: Status,
}

// === impl Hooks ===

impl Hooks {
    pub(super) fn add<H>(&self, hook: H)
    where
        H: Fn(&str, Status, Status) + Send + Sync + 'static,
    {
        let (send, changes) = mpsc::channel(WAITING);
        tokio::spawn(call(Arc::new(hook), changes));
        self.senders().push(send);
    }

    pub(super) fn tell(&self, change: &Change) {
        for hook in self.senders().iter() {
            if hook.try_send(change.clone()).is_err() {
                tracing::warn!(
                    check = &*change.name,
                    "a hook does not keep up, and is not told"
                );
            }
        }
    }

    fn senders(&self) -> MutexGuard<'_, Vec<Sender<Change>>> {
        // One push is all that happens under the lock; a panic tears nothing.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn call<H>(hook: Arc<H>, mut changes: Receiver<Change>)
where
    H: Fn(&str, Status, Status) + Send + Sync + 'static,
{
    while let Some(Change { name, from, to }) = changes.recv().await {
        let (hook, check) = (hook.clone(), name.clone());
        let called = spawn_blocking(move || hook(&check, from, to)).await;
        if called.is_err_and(|ended| ended.is_panic()) {
            tracing::error!(check = &*name, "a hook panicked");
        }
    }
}
