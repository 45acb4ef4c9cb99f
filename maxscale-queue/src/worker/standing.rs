//! Whether a worker is alive on a node, by its own clock.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout_at};
use uuid::Uuid;

use crate::store::Lease;

/// A worker's life on one node, and the jobs that it has there.
///
/// Its lease is one row, renewed for all jobs together. Once it is lost the worker
/// begins another life, and what it had is no longer its own.
#[derive(Debug)]
pub(super) struct Standing {
    life: watch::Sender<Life>,
    /// The jobs, and how each of them is told that it shall stop.
    held: Mutex<HashMap<Lease, Arc<Notify>>>,
    /// When the runtime that the jobs run on last said that it runs.
    signed: watch::Sender<Instant>,
}

/// A lease, safe until then: it ends in the database somewhat later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Life {
    pub(super) worker: Uuid,
    pub(super) until: Instant,
}

/// One job among the held ones, until dropped.
#[derive(Debug)]
pub(super) struct Keep {
    standing: Arc<Standing>,
    lease: Lease,
    asked: Arc<Notify>,
    life: watch::Receiver<Life>,
}

// === impl Standing ===

impl Standing {
    /// A life that has not begun.
    pub(super) fn new(worker: Uuid) -> Self {
        let until = Instant::now();
        Self {
            life: watch::Sender::new(Life { worker, until }),
            held: Mutex::default(),
            signed: watch::Sender::new(until),
        }
    }

    pub(super) fn life(&self) -> Life {
        *self.life.borrow()
    }

    /// Begins a life, or prolongs the one there is.
    pub(super) fn live(&self, life: Life) {
        self.life.send_replace(life);
    }

    /// Waits for a life that is surely its own.
    pub(super) async fn safe(&self) {
        let mut life = self.life.subscribe();
        // This holds the sender.
        let _ = life.wait_for(|life| Instant::now() < life.until).await;
    }

    /// Says that the runtime runs.
    pub(super) fn sign(&self) {
        self.signed.send_replace(Instant::now());
    }

    /// For how long the runtime has said nothing.
    pub(super) fn silent(&self) -> Duration {
        self.signed.borrow().elapsed()
    }

    /// Has the job while the guard lives.
    pub(super) fn keep(self: &Arc<Self>, lease: Lease) -> Keep {
        let asked = Arc::<Notify>::default();
        self.all().insert(lease, asked.clone());
        Keep {
            standing: self.clone(),
            lease,
            asked,
            life: self.life.subscribe(),
        }
    }

    /// The jobs that it has.
    pub(super) fn held(&self) -> Vec<Lease> {
        self.all().keys().copied().collect()
    }

    /// Tells a job that it shall stop, if it is held.
    pub(super) fn ask(&self, lease: &Lease) {
        if let Some(asked) = self.all().get(lease) {
            asked.notify_one();
        }
    }

    fn all(&self) -> MutexGuard<'_, HashMap<Lease, Arc<Notify>>> {
        // Each change is one insert or remove, so a panic elsewhere tears nothing.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Keep ===

impl Keep {
    /// Waits until the job is no longer surely this worker's; renewals move that moment.
    pub(super) async fn passed(&self) {
        let mut life = self.life.clone();
        loop {
            let Life { worker, until } = *life.borrow_and_update();
            if worker != self.lease.worker || Instant::now() >= until {
                return;
            }
            if let Ok(Err(_)) = timeout_at(until, life.changed()).await {
                // Nobody renews it any more.
                sleep_until(until).await;
            }
        }
    }

    /// Waits until the job shall stop.
    pub(super) async fn asked(&self) {
        self.asked.notified().await;
    }
}

impl Drop for Keep {
    fn drop(&mut self) {
        self.standing.all().remove(&self.lease);
    }
}
