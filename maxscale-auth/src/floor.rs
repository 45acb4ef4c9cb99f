//! How long an answer takes, whatever it was about.

mod samples;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use samples::Samples;

/// Holds answers back until the slowest of them could have been given, so that how
/// long one takes does not tell what it was about. Cheap to clone.
///
/// One per route, for all ways through it that must not be told apart: a login of
/// nobody, of an account with an old hash, of one that is locked. `K` names those
/// ways, a small closed set.
///
/// The floor is what 99 of 100 answers of the slowest kind take, over the last 256 of
/// each kind that are not older than ten minutes; never less than it
/// [began with](Self::new), and never more than [`most`](Self::most). It follows the
/// load, and all kinds alike. An answer that is above the floor already is not held;
/// so one in a hundred of the slowest kind may show, and no more. Nothing is held
/// while it is waited for: no thread, no connection, no place in a queue.
///
/// Answers that are the same for everybody, such as a refusal under load, need no floor.
pub struct Floor<K> {
    samples: Arc<Mutex<Samples<K>>>,
}

/// A request whose answer will be [held](Self::until_floor).
#[derive(Debug)]
#[must_use = "an answer is held by `until_floor`"]
pub struct Held<K> {
    floor: Floor<K>,
    begun: Instant,
}

// === impl Floor ===

impl<K: Copy + Eq> Floor<K> {
    /// The highest floor, unless it is set: more than a password waits for a thread by
    /// default.
    pub const MOST: Duration = Duration::from_secs(5);

    /// A floor that begins at twice `slowest`, as there is more to an answer than the
    /// slowest hash of its route ([`PasswordPool::slowest`](crate::PasswordPool::slowest)),
    /// and that is not lower later.
    pub fn new(slowest: Duration) -> Self {
        let least = slowest * 2;
        let samples = Samples::new(least, least.max(Self::MOST));
        Self {
            samples: Arc::new(Mutex::new(samples)),
        }
    }

    /// Sets the lowest floor, for all clones.
    #[must_use]
    pub fn least(self, least: Duration) -> Self {
        self.with(|samples| samples.set_least(least));
        self
    }

    /// Sets the highest floor, for all clones. Default: [`MOST`](Self::MOST). Answers
    /// that take longer show how long they took.
    #[must_use]
    pub fn most(self, most: Duration) -> Self {
        self.with(|samples| samples.set_most(most));
        self
    }

    /// Begins to measure. Call it before anything is looked up.
    pub fn begin(&self) -> Held<K> {
        Held {
            floor: self.clone(),
            begun: Instant::now(),
        }
    }

    /// How long an answer takes at least, now.
    pub fn now(&self) -> Duration {
        self.with(|samples| samples.floor())
    }

    fn with<T>(&self, work: impl FnOnce(&mut Samples<K>) -> T) -> T {
        // A panic leaves nothing half done that matters here.
        let samples = self.samples.lock();
        work(&mut samples.unwrap_or_else(PoisonError::into_inner))
    }
}

// === impl Held ===

impl<K: Copy + Eq> Held<K> {
    /// Counts what the answer took as of `kind`, and returns at the floor.
    ///
    /// Dropped before, the answer is not counted. Dropped while it waits, it is.
    pub async fn until_floor(self, kind: K) {
        let now = Instant::now();
        let took = now.duration_since(self.begun);
        let floor = self.floor.with(|samples| {
            samples.add(kind, took, now);
            samples.floor()
        });
        sleep_until(self.begun + floor).await;
    }
}

impl<K> Clone for Floor<K> {
    fn clone(&self) -> Self {
        Self {
            samples: self.samples.clone(),
        }
    }
}

impl<K> fmt::Debug for Floor<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Floor").finish_non_exhaustive()
    }
}
