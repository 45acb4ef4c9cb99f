//! Whether this process, and what it depends on, is well.
//!
//! [`Health`] runs registered checks in the background, so that asking costs
//! nothing and a flood of questions reaches no database. A check that hangs or
//! panics has failed. The first result counts at once; afterwards three
//! failures in a row make a check down, and two passes make it up again.
//!
//! `/livez` depends on nothing: restarting this process heals no database.
//! `/readyz` follows the critical checks and [`Health::set_draining`].

mod check;
#[cfg(feature = "axum")]
mod routes;
mod state;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::BoxError;
use crate::clock::{Clock, Timestamp};

#[cfg(feature = "axum")]
pub use routes::{probes, routes, tree};
pub use state::Status;

use check::Check;

/// The checks of this process and their last results. Clones share them.
///
/// The checks stop when the last clone is dropped, or at [`Health::shutdown`].
#[derive(Clone, Debug)]
pub struct Health(Arc<Inner>);

/// What it means when a check is down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Importance {
    /// The service cannot serve: `/readyz` answers 503.
    Critical,
    /// The service serves less or slower; `/readyz` stays.
    Degrading,
}

/// The worst of all checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Overall {
    /// Every check is up.
    Ok,
    /// A degrading check is down or has no result yet.
    Degraded,
    /// A critical check is down or has no result yet.
    Down,
}

/// All results at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Report {
    /// The worst of all checks.
    pub overall: Overall,
    /// The program's version.
    pub version: &'static str,
    /// Whether the process finishes its requests and takes no new ones.
    pub draining: bool,
    /// The checks, by name.
    pub checks: Vec<CheckReport>,
}

/// The last result of one check.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CheckReport {
    /// The check's name.
    pub name: Arc<str>,
    /// What it means when it is down.
    pub importance: Importance,
    /// Whether it is down.
    pub status: Status,
    /// Since when the status holds.
    pub since: Timestamp,
    /// Why the last run failed: the error's own text, without its causes.
    pub error: Option<String>,
}

/// When checks run and how long they may take.
#[derive(Clone, Copy, Debug)]
struct Pace {
    interval: Duration,
    timeout: Duration,
}

#[derive(Debug)]
struct Inner {
    clock: Clock,
    pace: Pace,
    version: &'static str,
    draining: AtomicBool,
    checks: Mutex<BTreeMap<Arc<str>, Check>>,
}

// === impl Health ===

impl Health {
    /// The time from the end of one run of a check to the start of the next.
    pub const INTERVAL: Duration = Duration::from_secs(2);

    /// The time after which a run has failed.
    pub const TIMEOUT: Duration = Duration::from_secs(1);

    /// A registry without checks, which is ready.
    pub fn new(clock: Clock, version: &'static str) -> Self {
        let pace = Pace {
            interval: Self::INTERVAL,
            timeout: Self::TIMEOUT,
        };
        Self::paced(clock, version, pace)
    }

    fn paced(clock: Clock, version: &'static str, pace: Pace) -> Self {
        Self(Arc::new(Inner {
            clock,
            pace,
            version,
            draining: AtomicBool::new(false),
            checks: Mutex::default(),
        }))
    }

    /// Runs `check` every two seconds from now on.
    ///
    /// Until its first result a critical check keeps the process from being
    /// ready. A check of the same name is replaced. The text of the error is
    /// shown at `/health`, so it must carry no secret.
    ///
    /// # Panics
    ///
    /// Panics outside a tokio runtime.
    pub fn register<C, F>(&self, name: &str, importance: Importance, check: C)
    where
        C: Fn() -> F + Send + Sync + 'static,
        F: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        let name: Arc<str> = name.into();
        let clock = self.0.clock.clone();
        let check = Check::start(name.clone(), importance, clock, self.0.pace, check);
        self.checks().insert(name, check);
    }

    /// Makes `/readyz` answer 503 for good, so that no new work is sent here.
    pub fn set_draining(&self) {
        self.0.draining.store(true, Ordering::Release);
    }

    /// Whether new work may be sent here.
    pub fn is_ready(&self) -> bool {
        let report = self.report();
        !report.draining && report.overall != Overall::Down
    }

    /// All results as they are now; runs no check.
    pub fn report(&self) -> Report {
        let checks: Vec<_> = self.checks().values().map(Check::report).collect();
        let overall = checks.iter().map(CheckReport::overall).max();
        Report {
            overall: overall.unwrap_or(Overall::Ok),
            version: self.0.version,
            draining: self.0.draining.load(Ordering::Acquire),
            checks,
        }
    }

    /// Stops all checks; their last results stay.
    pub fn shutdown(&self) {
        self.checks().values().for_each(Check::stop);
    }

    fn checks(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Check>> {
        // One insertion is all that happens under the lock; a panic tears nothing.
        self.0.checks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl CheckReport ===

impl CheckReport {
    fn overall(&self) -> Overall {
        match (self.status, self.importance) {
            (Status::Up, _) => Overall::Ok,
            (_, Importance::Degrading) => Overall::Degraded,
            (_, Importance::Critical) => Overall::Down,
        }
    }
}

#[cfg(test)]
mod tests;
