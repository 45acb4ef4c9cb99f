//! A limit of calls under way that learns how many an upstream works on at a time.
//!
//! [`AdaptiveLimit`] refuses what would only wait in the upstream's queue; what the
//! limit is follows from what calls take
//! ([`Concurrency`](crate::control::Concurrency)). It knows neither
//! processors nor pools, and queues nothing itself.

mod builder;
mod layer;
mod permit;
mod windows;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::Instant;

pub use builder::AdaptiveLimitBuilder;
pub use layer::{AdaptiveLimitFuture, AdaptiveLimitLayer, AdaptivelyLimited};
pub use permit::AdaptivePermit;

use self::windows::{Windows, micros};
use crate::meter::{self, HotCounter, Meter, Metric};
use crate::refusal::{Class, Classify};

/// Requests that an adaptive limit was asked for: `passed`, `refused`, and
/// `would_refuse` in a dry run.
pub const ADAPTIVE_REQUESTS: Metric = Metric::new(
    "maxscale.adaptive.requests",
    "{request}",
    "Requests that an adaptive limit was asked for.",
);

/// How many calls an adaptive limit lets through at a time.
pub const ADAPTIVE_LIMIT: Metric = Metric::new(
    "maxscale.adaptive.limit",
    "{request}",
    "Calls that an adaptive limit allows at a time.",
);

/// How many calls an adaptive limit has let through that have not ended.
pub const ADAPTIVE_ACTIVE: Metric = Metric::new(
    "maxscale.adaptive.active",
    "{request}",
    "Calls under way that an adaptive limit has let through.",
);

/// How many calls one upstream is given at a time. Clones share it.
///
/// A call that is let through takes no lock, but the first of each window.
#[derive(Clone)]
pub struct AdaptiveLimit(Arc<Shared>);

/// The upstream has as many calls as it works on at a time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the limit of `{name}` is reached")]
#[non_exhaustive]
pub struct AdaptiveLimitReached {
    /// The limit's name.
    pub name: Arc<str>,
}

struct Shared {
    name: Arc<str>,
    windows: Windows,
    /// The time of day, in microseconds, at which `begun` was.
    day: u64,
    begun: Instant,
    dry_run: AtomicBool,
    passed: HotCounter,
    refused: HotCounter,
    would_refuse: HotCounter,
}

// === impl AdaptiveLimit ===

impl AdaptiveLimit {
    /// The limit's name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// How many calls may be under way. For a moment now and then a quarter fewer may.
    pub fn limit(&self) -> u32 {
        self.0.windows.concurrency().limit()
    }

    /// How many calls are under way.
    pub fn active(&self) -> u32 {
        self.0.windows.in_flight()
    }

    /// What a call takes without a queue, once that is known.
    pub fn base(&self) -> Option<Duration> {
        self.0.windows.concurrency().base()
    }

    /// Takes a place for a call.
    ///
    /// Tell the permit how the call ended ([`AdaptivePermit::end`]). One that is
    /// dropped frees its place, and says that its caller did not wait longer.
    ///
    /// # Errors
    ///
    /// Returns [`AdaptiveLimitReached`] if all places are taken.
    pub fn enter(&self) -> Result<AdaptivePermit, AdaptiveLimitReached> {
        let shared = &*self.0;
        let dry_run = shared.dry_run.load(Ordering::Relaxed);
        let (ticket, room) = shared.windows.enter(shared.now(), dry_run);
        let Some(ticket) = ticket else {
            shared.refused.add(1);
            let name = shared.name.clone();
            return Err(AdaptiveLimitReached { name });
        };
        let count = if room {
            &shared.passed
        } else {
            &shared.would_refuse
        };
        count.add(1);
        Ok(AdaptivePermit::new(self.clone(), ticket))
    }

    /// Whether it only counts what it would refuse, and lets all through. Nothing is
    /// held back to measure then, so no queue is seen: the limit grows with what is
    /// asked for, and falls when it is in force again.
    pub fn set_dry_run(&self, dry_run: bool) {
        self.0.dry_run.store(dry_run, Ordering::Relaxed);
    }

    /// The meter outlives the limit, and must not keep it.
    fn measure(&self, meter: &Meter) {
        let gauge = |metric, read: fn(&Self) -> u32| {
            let shared = Arc::downgrade(&self.0);
            meter::gauge(meter, metric, &[("upstream", self.name())], move || {
                Some(f64::from(read(&Self(shared.upgrade()?))))
            });
        };
        gauge(ADAPTIVE_LIMIT, Self::limit);
        gauge(ADAPTIVE_ACTIVE, Self::active);
    }
}

impl fmt::Debug for AdaptiveLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdaptiveLimit")
            .field("name", &self.0.name)
            .finish_non_exhaustive()
    }
}

// === impl Shared ===

impl Shared {
    fn now(&self) -> u64 {
        self.day.saturating_add(micros(self.begun.elapsed()))
    }
}

// === impl AdaptiveLimitReached ===

impl Classify for AdaptiveLimitReached {
    fn class(&self) -> Class {
        Class::Unavailable
    }

    fn code(&self) -> &'static str {
        "limit_reached"
    }

    fn retry_after(&self) -> Option<Duration> {
        // Nobody knows; a second is the least that can be told.
        Some(Duration::from_secs(1))
    }
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
