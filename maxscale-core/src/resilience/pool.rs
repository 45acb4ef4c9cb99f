//! A guard of a pool: when it is nearly full, what matters least does not get in.
//!
//! [`PoolGuard`] reads how full a pool is (of connections, of threads) by a function
//! that whoever owns the pool gives it, and says which requests may still
//! come; [`PoolGuardLayer`] refuses the others. It takes nothing out of the pool
//! and does not know what is in it. It looks when a request comes; what warns
//! operators is [`capacity`](crate::capacity), which may read the same function.

mod builder;
mod layer;

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

pub use builder::PoolGuardBuilder;
pub use layer::{PoolGuardFuture, PoolGuardLayer, PoolGuarded};

use super::Priority;
use crate::control::{Fill, Pressure, PressureRules, Strain};
use crate::meter::{HotCounter, Meter, Metric};
use crate::refusal::{Class, Classify};

/// Requests that a pool's guard was asked for: `passed`, `refused`, and
/// `would_refuse` in a dry run.
pub const POOL_GUARD_REQUESTS: Metric = Metric::new(
    "maxscale.pool_guard.requests",
    "{request}",
    "Requests that the guard of a pool was asked for.",
);

/// Who may still use a pool. Clones share it.
///
/// While the pool is not nearly full a request takes no lock and reads no clock.
#[derive(Clone)]
pub struct PoolGuard(Arc<Shared>);

/// The pool is nearly full, and other requests matter more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the pool `{name}` is nearly full")]
#[non_exhaustive]
pub struct PoolBusy {
    /// The guard's name.
    pub name: Arc<str>,
}

struct Shared {
    name: Arc<str>,
    read: Box<dyn Fn() -> Option<Fill> + Send + Sync>,
    rules: PressureRules,
    pressure: Mutex<Pressure>,
    /// The strain, or [`CALM`].
    told: AtomicU8,
    /// What is refused first, and all that matters less.
    first: Priority,
    dry_run: AtomicBool,
    passed: HotCounter,
    refused: HotCounter,
    would_refuse: HotCounter,
}

const CALM: u8 = u8::MAX;

// === impl PoolGuard ===

impl PoolGuard {
    /// The guard's name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Whether a request of this priority may use the pool now.
    ///
    /// # Errors
    ///
    /// Returns [`PoolBusy`] if it may not.
    pub fn admit(&self, priority: Priority) -> Result<(), PoolBusy> {
        let shared = &*self.0;
        let refused = match self.strain() {
            Strain::None => false,
            Strain::High => priority >= shared.first,
            Strain::Highest => priority > Priority::CRITICAL,
        };
        if !refused {
            shared.passed.add(1);
            return Ok(());
        }
        if shared.dry_run.load(Ordering::Relaxed) {
            shared.would_refuse.add(1);
            return Ok(());
        }
        shared.refused.add(1);
        Err(PoolBusy {
            name: shared.name.clone(),
        })
    }

    /// Reads how full the pool is, and says what follows. Of a pool that does not
    /// say, nothing follows.
    pub fn strain(&self) -> Strain {
        let shared = &*self.0;
        let Some(fill) = (shared.read)() else {
            return Strain::None;
        };
        let told = shared.told.load(Ordering::Relaxed);
        if told == CALM && !shared.rules.is_high(fill) {
            return Strain::None;
        }
        // A value is replaced whole; a panic tears nothing.
        let pressure = shared.pressure.lock();
        let mut pressure = pressure.unwrap_or_else(PoisonError::into_inner);
        let (strain, next) = pressure.on(Instant::now(), fill);
        *pressure = next;
        let tell = if next.is_calm() { CALM } else { strain as u8 };
        let before = shared.told.swap(tell, Ordering::Relaxed);
        drop(pressure);
        self.tell(before, strain);
        strain
    }

    /// Whether it only counts what it would refuse.
    pub fn set_dry_run(&self, dry_run: bool) {
        self.0.dry_run.store(dry_run, Ordering::Relaxed);
    }

    fn tell(&self, before: u8, strain: Strain) {
        let before = if before == CALM { 0 } else { before };
        let pool = self.name();
        match strain {
            _ if before == strain as u8 => {}
            Strain::None => tracing::info!(pool, "pool has room again"),
            Strain::High => tracing::warn!(pool, "pool is nearly full: what matters least waits"),
            Strain::Highest => tracing::warn!(pool, "pool is full: only what is critical passes"),
        }
    }
}

impl fmt::Debug for PoolGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolGuard")
            .field("name", &self.0.name)
            .finish_non_exhaustive()
    }
}

fn counter(meter: &Meter, pool: &str, outcome: &str) -> HotCounter {
    let labels = [("pool", pool), ("outcome", outcome)];
    HotCounter::register(meter, POOL_GUARD_REQUESTS, &labels)
}

// === impl PoolBusy ===

impl Classify for PoolBusy {
    fn class(&self) -> Class {
        Class::Unavailable
    }

    fn code(&self) -> &'static str {
        "pool_busy"
    }

    fn retry_after(&self) -> Option<Duration> {
        // Nobody knows; a second is the least that can be told.
        Some(Duration::from_secs(1))
    }
}

#[cfg(test)]
mod tests;
