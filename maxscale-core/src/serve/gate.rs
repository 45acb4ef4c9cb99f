//! How many connections there may be, and how many there are.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::meter::{HotCounter, HotLevel, Meter, Metric};

const OPEN: Metric = Metric::new(
    "maxscale.server.connections",
    "{connection}",
    "Connections that are open, also those that were upgraded.",
);
const FULL: Metric = Metric::new(
    "maxscale.server.connections.full",
    "{time}",
    "Times that there was no room for the next connection.",
);
const SLOW: Metric = Metric::new(
    "maxscale.server.connections.slow",
    "{connection}",
    "Connections that were cut because the head of a request did not come.",
);
const ERRORS: Metric = Metric::new(
    "maxscale.server.accept.errors",
    "{error}",
    "Times that the system could not accept a connection.",
);

/// How often the log tells the same of one server.
const TELL_AGAIN: Duration = Duration::from_secs(10);

/// The connections of one server, read by whoever watches them. Clones are one.
#[derive(Clone, Debug)]
pub struct Connections(Arc<Gate>);

/// What one server's connections and requests are counted in.
#[derive(Debug)]
pub(super) struct Gate {
    name: &'static str,
    limit: u32,
    places: Arc<Semaphore>,
    open: HotLevel,
    full: HotCounter,
    slow: HotCounter,
    errors: HotCounter,
    requests: AtomicUsize,
    told_full: Mutex<Option<Instant>>,
    told_error: Mutex<Option<Instant>>,
}

/// A place for one connection, until it is closed.
#[derive(Debug)]
pub(super) struct Place {
    gate: Arc<Gate>,
    _permit: OwnedSemaphorePermit,
}

/// A request, from its head to the end of both bodies.
#[derive(Debug)]
pub(super) struct Request(Arc<Gate>);

// === impl Connections ===

impl Connections {
    pub(super) const fn new(gate: Arc<Gate>) -> Self {
        Self(gate)
    }

    /// How many are open.
    pub fn open(&self) -> u64 {
        u64::try_from(self.0.open.get()).unwrap_or(0)
    }

    /// How many there may be.
    pub fn limit(&self) -> u64 {
        u64::from(self.0.limit)
    }
}

// === impl Gate ===

impl Gate {
    pub(super) fn new(name: &'static str, limit: u32, meter: &Meter) -> Arc<Self> {
        let labels = &[("server", name)];
        let places = usize::try_from(limit).unwrap_or(usize::MAX);
        Arc::new(Self {
            name,
            limit,
            places: Arc::new(Semaphore::new(places)),
            open: HotLevel::register(meter, OPEN, labels),
            full: HotCounter::register(meter, FULL, labels),
            slow: HotCounter::register(meter, SLOW, labels),
            errors: HotCounter::register(meter, ERRORS, labels),
            requests: AtomicUsize::new(0),
            told_full: Mutex::default(),
            told_error: Mutex::default(),
        })
    }

    /// Waits for a place. May be cancelled.
    pub(super) async fn place(self: &Arc<Self>) -> OwnedSemaphorePermit {
        let places = self.places.clone();
        if let Ok(permit) = places.clone().try_acquire_owned() {
            return permit;
        }
        self.full.add(1);
        if due(&self.told_full) {
            tracing::warn!(
                server = self.name,
                limit = self.limit,
                "no room for another connection: it waits for one to end"
            );
        }
        let permit = places.acquire_owned().await;
        permit.expect("the semaphore is never closed")
    }

    /// Gives the place to a connection that was accepted.
    pub(super) fn enter(self: &Arc<Self>, permit: OwnedSemaphorePermit) -> Place {
        self.open.add(1);
        Place {
            gate: self.clone(),
            _permit: permit,
        }
    }

    pub(super) fn request(self: &Arc<Self>) -> Request {
        self.requests.fetch_add(1, Ordering::Relaxed);
        Request(self.clone())
    }

    pub(super) fn slow(&self) {
        self.slow.add(1);
    }

    pub(super) fn failed(&self, error: &std::io::Error) {
        self.errors.add(1);
        if due(&self.told_error) {
            tracing::error!(server = self.name, %error, "cannot accept a connection");
        }
    }

    pub(super) fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }

    pub(super) fn open(&self) -> usize {
        usize::try_from(self.open.get()).unwrap_or(0)
    }

    /// Waits until no connection is left; new ones find no place meanwhile.
    pub(super) async fn empty(&self) {
        // An error would mean that the semaphore is closed, which it never is.
        let _ = self.places.acquire_many(self.limit).await;
    }
}

/// Whether it is time to tell again, which is then noted.
fn due(told: &Mutex<Option<Instant>>) -> bool {
    let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
    let now = Instant::now();
    let due = told.is_none_or(|told| now.duration_since(told) >= TELL_AGAIN);
    if due {
        *told = Some(now);
    }
    due
}

// === impl Place ===

impl Drop for Place {
    fn drop(&mut self) {
        self.gate.open.add(-1);
    }
}

// === impl Request ===

impl Drop for Request {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}
