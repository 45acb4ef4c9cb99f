//! A bulkhead: of what shares a process, none takes all of it.
//!
//! [`Bulkhead`] lets so many requests of each key through at a time (an upstream, a
//! tenant), and has others wait for a short time. It knows keys only while they
//! have requests, and at most so many of them: memory is bounded whatever
//! strangers ask for. A place is taken until the head of the answer; a body that
//! streams longer has none.

mod builder;
mod layer;
mod places;

use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

pub use builder::BulkheadBuilder;
pub use layer::{BulkheadFuture, BulkheadKey, BulkheadLayer, Bulkheaded, Whole};
pub use places::BulkheadPermit;

use self::places::{Compartment, Places};
use crate::fact::Deadline;
use crate::meter::{HotCounter, HotLevel, Meter, Metric};
use crate::refusal::{Class, Classify};

/// Requests that a bulkhead was asked for, by what became of them: `passed`,
/// `waited`, `refused`, and `would_refuse` in a dry run.
pub const BULKHEAD_REQUESTS: Metric = Metric::new(
    "maxscale.bulkhead.requests",
    "{request}",
    "Requests that a bulkhead was asked for.",
);

/// How many requests a bulkhead has let through that have not ended.
pub const BULKHEAD_ACTIVE: Metric = Metric::new(
    "maxscale.bulkhead.active",
    "{request}",
    "Requests that hold a place of a bulkhead.",
);

/// How many requests wait for a place of a bulkhead.
pub const BULKHEAD_WAITING: Metric = Metric::new(
    "maxscale.bulkhead.waiting",
    "{request}",
    "Requests that wait for a place of a bulkhead.",
);

/// So many requests of each key at a time. Clones share the places.
///
/// Without keys a request that finds a place takes no lock; with keys, one for
/// the moment in which its key is looked up, of sixteen.
pub struct Bulkhead<K = ()>(Arc<Shared<K>>);

/// No place was free in time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BulkheadError {
    /// All places of the key are taken.
    #[error("the bulkhead `{name}` is full")]
    Full {
        /// The bulkhead's name.
        name: Arc<str>,
    },

    /// Too many keys have requests at this moment.
    #[error("the bulkhead `{name}` has too many keys")]
    Keys {
        /// The bulkhead's name.
        name: Arc<str>,
    },
}

struct Shared<K> {
    name: Arc<str>,
    places: Places<K>,
    max_wait: Duration,
    dry_run: AtomicBool,
    told: Told,
}

#[derive(Debug)]
struct Told {
    passed: HotCounter,
    waited: HotCounter,
    refused: HotCounter,
    would_refuse: HotCounter,
    active: HotLevel,
    waiting: HotLevel,
}

/// One more on a level, as long as it lives.
#[derive(Debug)]
struct Counted<'a>(&'a HotLevel);

// === impl Bulkhead ===

impl<K: Hash + Eq + Clone> Bulkhead<K> {
    /// The bulkhead's name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// How many requests hold a place.
    pub fn active(&self) -> i64 {
        self.0.told.active.get()
    }

    /// How many requests wait for one.
    pub fn waiting(&self) -> i64 {
        self.0.told.waiting.get()
    }

    /// How many keys have requests now.
    pub fn keys(&self) -> usize {
        self.0.places.keys()
    }

    /// Whether it only counts what it would refuse, and lets all through at once.
    pub fn set_dry_run(&self, dry_run: bool) {
        self.0.dry_run.store(dry_run, Ordering::Relaxed);
    }

    /// Takes a place of `key`, or waits for one, no longer than the bulkhead allows
    /// and `deadline` leaves.
    ///
    /// Dropping the future leaves the queue; dropping the permit frees the place.
    ///
    /// # Errors
    ///
    /// Returns [`BulkheadError`] if there was none in time.
    pub async fn enter(
        &self,
        key: &K,
        deadline: Option<Deadline>,
    ) -> Result<BulkheadPermit<K>, BulkheadError> {
        match self.try_enter(key)? {
            Entry::Permit(permit) => Ok(permit),
            Entry::Full(compartment) => self.wait(compartment, deadline).await,
        }
    }

    /// Takes a place if there is one. What there is to wait for otherwise.
    fn try_enter(&self, key: &K) -> Result<Entry<K>, BulkheadError> {
        let shared = &*self.0;
        let dry_run = shared.dry_run.load(Ordering::Relaxed);
        let Some(compartment) = Compartment::of(&self.0, key) else {
            return match dry_run {
                true => Ok(Entry::Permit(self.would_refuse())),
                false => Err(self.refuses(BulkheadError::Keys {
                    name: shared.name.clone(),
                })),
            };
        };
        match compartment.try_acquire() {
            Ok(permit) => {
                shared.told.passed.add(1);
                Ok(Entry::Permit(permit))
            }
            Err(_) if dry_run => Ok(Entry::Permit(self.would_refuse())),
            Err(compartment) => Ok(Entry::Full(compartment)),
        }
    }

    async fn wait(
        &self,
        compartment: Compartment<K>,
        deadline: Option<Deadline>,
    ) -> Result<BulkheadPermit<K>, BulkheadError> {
        let shared = &*self.0;
        let end = Instant::now() + shared.max_wait;
        let end = deadline.map_or(end, |deadline| deadline.instant().min(end));
        let waiting = Counted::on(&shared.told.waiting);
        let permit = timeout_at(end, compartment.acquire()).await;
        drop(waiting);
        match permit {
            Ok(Some(permit)) => {
                shared.told.waited.add(1);
                Ok(permit)
            }
            _ => Err(self.refuses(BulkheadError::Full {
                name: shared.name.clone(),
            })),
        }
    }

    fn refuses(&self, error: BulkheadError) -> BulkheadError {
        self.0.told.refused.add(1);
        tracing::debug!(bulkhead = self.name(), "request refused: {error}");
        error
    }

    fn would_refuse(&self) -> BulkheadPermit<K> {
        self.0.told.would_refuse.add(1);
        BulkheadPermit::without_a_place(&self.0)
    }
}

impl<K> Clone for Bulkhead<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K> fmt::Debug for Bulkhead<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bulkhead")
            .field("name", &self.0.name)
            .finish_non_exhaustive()
    }
}

/// What a request finds that wants a place.
enum Entry<K: Hash + Eq> {
    Permit(BulkheadPermit<K>),
    Full(Compartment<K>),
}

// === impl Entry ===

impl<K: Hash + Eq> Entry<K> {
    fn permit(self) -> Option<BulkheadPermit<K>> {
        match self {
            Self::Permit(permit) => Some(permit),
            Self::Full(_) => None,
        }
    }
}

// === impl Told ===

impl Told {
    fn new(meter: &Meter, name: &str) -> Self {
        let requests = |outcome| {
            HotCounter::register(
                meter,
                BULKHEAD_REQUESTS,
                &[("bulkhead", name), ("outcome", outcome)],
            )
        };
        let level = |metric| HotLevel::register(meter, metric, &[("bulkhead", name)]);
        Self {
            passed: requests("passed"),
            waited: requests("waited"),
            refused: requests("refused"),
            would_refuse: requests("would_refuse"),
            active: level(BULKHEAD_ACTIVE),
            waiting: level(BULKHEAD_WAITING),
        }
    }
}

// === impl Counted ===

impl<'a> Counted<'a> {
    fn on(level: &'a HotLevel) -> Self {
        level.add(1);
        Self(level)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.add(-1);
    }
}

// === impl BulkheadError ===

impl Classify for BulkheadError {
    fn class(&self) -> Class {
        Class::Unavailable
    }

    fn code(&self) -> &'static str {
        "bulkhead_full"
    }

    fn retry_after(&self) -> Option<Duration> {
        // Nobody knows; a second is the least that can be told.
        Some(Duration::from_secs(1))
    }
}

#[cfg(test)]
mod tests;
