//! How many connections all pools together may have.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use sqlx::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::pool::Inner;

/// The connections that several pools may have together. Cheap to clone.
///
/// A pool that needs one more than there are takes the place of the connection,
/// of any pool, that has idled longest; where none idles it waits for the first
/// to be given back.
#[derive(Clone)]
pub(crate) struct Budget(Arc<Shared>);

struct Shared {
    free: Arc<Semaphore>,
    /// How many wait for a share. While any does, nothing that comes back is kept.
    waiting: AtomicUsize,
    pools: Mutex<Vec<Weak<Inner>>>,
}

/// One that waits, until dropped.
struct Waiting<'b>(&'b AtomicUsize);

// === impl Budget ===

impl Budget {
    pub(crate) fn new(most: u32) -> Self {
        // None at all would be a wait without end for each connection.
        let free = Arc::new(Semaphore::new(most.max(1) as usize));
        Self(Arc::new(Shared {
            free,
            waiting: AtomicUsize::new(0),
            pools: Mutex::default(),
        }))
    }

    /// Remembers a pool, whose idle connections may have to go.
    pub(super) fn list(&self, pool: Weak<Inner>) {
        let mut pools = self.pools();
        pools.retain(|pool| pool.strong_count() > 0);
        pools.push(pool);
    }

    /// Whether a connection that comes back is better closed.
    pub(super) fn is_wanted(&self) -> bool {
        self.0.waiting.load(Ordering::SeqCst) > 0
    }

    /// A place for one more connection. Waits for as long as it takes.
    pub(super) async fn share(&self) -> Result<OwnedSemaphorePermit, Error> {
        let free = &self.0.free;
        if let Ok(share) = free.clone().try_acquire_owned() {
            return Ok(share);
        }
        // First told, then looked: what is kept after the look was given back
        // before, and whatever comes back later is closed.
        let _waiting = Waiting::among(&self.0.waiting);
        if let Some(pool) = self.idlest() {
            pool.close_one();
        }
        let share = free.clone().acquire_owned().await;
        share.map_err(|_| Error::PoolClosed)
    }

    fn idlest(&self) -> Option<Arc<Inner>> {
        let since = |pool: &Weak<Inner>| {
            let pool = pool.upgrade()?;
            Some((pool.idles_since()?, pool))
        };
        let pools = self.pools().clone();
        let idle = pools.iter().filter_map(since);
        idle.min_by_key(|(since, _)| *since).map(|(_, pool)| pool)
    }

    fn pools(&self) -> std::sync::MutexGuard<'_, Vec<Weak<Inner>>> {
        // Each change leaves a list.
        self.0.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Waiting ===

impl<'b> Waiting<'b> {
    fn among(waiting: &'b AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::SeqCst);
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
