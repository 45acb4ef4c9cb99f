//! When sessions and API keys were used last, written now and then and many at once.
//!
//! A request notes its time in memory and goes on. One task writes what was noted;
//! what the store did not take is noted again, as far as there is room.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use maxscale_core::Chain;
use maxscale_core::clock::Timestamp;
use maxscale_core::id::Id;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::erased::{DynTouch, StoreError};
use super::store::Touch;

/// How long what was noted waits at most.
const FLUSH_EVERY: Duration = Duration::from_secs(5);

/// With so many it does not wait, and so many go with one call of the store.
const BATCH: usize = 1_000;

/// The sessions that are noted at once. Of a further one the next request tries again.
const MOST: usize = 16 * BATCH;

/// What was noted, and the task that writes it. The task ends with it.
#[derive(Debug)]
pub(crate) struct Activity {
    noted: Arc<Noted>,
    /// Started by the first note, because a handle may be built outside a runtime.
    task: OnceLock<JoinHandle<()>>,
}

#[derive(Debug)]
struct Noted {
    store: Arc<dyn DynTouch>,
    dirty: Mutex<HashMap<(Id, Id), Timestamp>>,
    full: Notify,
    /// One writes at a time, so that who has written has waited for the others too.
    writing: tokio::sync::Mutex<()>,
}

// === impl Activity ===

impl Activity {
    pub(crate) fn new(store: Arc<dyn DynTouch>) -> Self {
        Self {
            noted: Arc::new(Noted {
                store,
                dirty: Mutex::default(),
                full: Notify::new(),
                writing: tokio::sync::Mutex::default(),
            }),
            task: OnceLock::new(),
        }
    }

    /// Notes a request. To be called in a runtime.
    pub(crate) fn note(&self, user: Id, session: Id, at: Timestamp) {
        if self.noted.note(user, session, at) {
            self.noted.full.notify_one();
        }
        self.task.get_or_init(|| {
            let noted = self.noted.clone();
            tokio::spawn(async move { noted.keep_flushing().await })
        });
    }

    /// Writes all that is noted.
    pub(crate) async fn flush(&self) -> Result<(), StoreError> {
        self.noted.flush().await
    }
}

impl Drop for Activity {
    fn drop(&mut self) {
        if let Some(task) = self.task.get() {
            task.abort();
        }
    }
}

// === impl Noted ===

impl Noted {
    /// Whether it is this one with which so many are noted that they should be written.
    fn note(&self, user: Id, session: Id, at: Timestamp) -> bool {
        let mut dirty = self.dirty();
        let room = dirty.len() < MOST;
        match dirty.entry((user, session)) {
            Entry::Occupied(mut noted) => {
                let latest = at.max(*noted.get());
                noted.insert(latest);
                false
            }
            Entry::Vacant(place) if room => {
                place.insert(at);
                dirty.len() == BATCH
            }
            Entry::Vacant(_) => false,
        }
    }

    async fn keep_flushing(&self) {
        loop {
            // Full or not, it is time.
            let _ = timeout(FLUSH_EVERY, self.full.notified()).await;
            if let Err(error) = self.flush().await {
                tracing::warn!(error = %Chain(&error), "cannot note when sessions were used");
            }
        }
    }

    async fn flush(&self) -> Result<(), StoreError> {
        let _only_one = self.writing.lock().await;
        loop {
            let batch = self.take();
            if batch.is_empty() {
                return Ok(());
            }
            if let Err(error) = self.store.touch(&batch).await {
                // The next turn tries again: at once it would hardly be better.
                for it in batch {
                    self.note(it.user, it.session, it.at);
                }
                return Err(error);
            }
        }
    }

    fn take(&self) -> Vec<Touch> {
        let mut dirty = self.dirty();
        let some: Vec<_> = dirty.keys().take(BATCH).copied().collect();
        let taken = some.into_iter().filter_map(|key| {
            let at = dirty.remove(&key)?;
            let (user, session) = key;
            Some(Touch { user, session, at })
        });
        taken.collect()
    }

    fn dirty(&self) -> MutexGuard<'_, HashMap<(Id, Id), Timestamp>> {
        self.dirty.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
