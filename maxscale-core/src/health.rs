//! Whether this process, and what it depends on, is well.
//!
//! [`Health`] runs registered checks in the background, so that asking costs
//! nothing and a flood of questions reaches no database. A check that hangs or
//! panics has failed. The first result counts at once; afterwards three
//! failures in a row make a check down, and two passes make it up again.
//!
//! `/livez` depends on nothing: restarting this process heals no database.
//! `/startupz` waits until each critical check has passed once, and never
//! changes again. `/readyz` follows the critical checks and
//! [`Health::set_draining`].
//!
//! ```text
//!  application ─┬─ its own checks
//!               ├─ nodes ── node-1, node-2 …
//!               ├─ redis, object_store, queue, bus
//!               └─ places of your own
//! ```

mod builder;
mod check;
mod hook;
mod place;
mod report;
#[cfg(feature = "axum")]
mod routes;
mod state;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::BoxError;
use crate::clock::Clock;
use crate::draw::Draw;
use crate::meter::{self, Meter, Metric};

pub use builder::HealthBuilder;
pub use place::Place;
pub use report::{Branch, CheckReport, Overall, Report};
#[cfg(feature = "axum")]
pub use routes::{probes, routes, tree};
pub use state::Status;

use check::{Check, Subject};
use hook::Hooks;

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
    /// Good to know: nothing but the check itself is called down.
    Info,
}

/// Whether a check passes: 1 or 0, and nothing before its first result.
pub const CHECK_UP: Metric = Metric::new(
    "maxscale.health.up",
    "{check}",
    "1 if the health check is up, 0 if it is down.",
);

/// The label of [`CHECK_UP`]: the check's name.
const CHECK: &str = "check";

/// When checks run and how long they may take.
#[derive(Clone, Debug)]
struct Pace {
    interval: Duration,
    timeout: Duration,
    random: Draw,
}

#[derive(Debug)]
struct Inner {
    clock: Clock,
    pace: Pace,
    version: &'static str,
    meter: Meter,
    draining: AtomicBool,
    started: AtomicBool,
    hooks: Arc<Hooks>,
    checks: Mutex<BTreeMap<Arc<str>, Check>>,
}

// === impl Health ===

impl Health {
    /// The time from the end of one run of a check to the start of the next,
    /// give or take a fifth.
    pub const INTERVAL: Duration = Duration::from_secs(2);

    /// The time after which a run has failed.
    pub const TIMEOUT: Duration = Duration::from_secs(1);

    /// A registry without checks, which is ready.
    pub fn new(clock: Clock, version: &'static str) -> Self {
        Self::builder(clock, version).build()
    }

    /// Runs `check` every two seconds or so from now on, and shows it at `place`.
    ///
    /// Until its first result a critical check keeps the process from being
    /// ready. A check of the same name is replaced, wherever it stood. The text
    /// of the error is shown at `/health`, so it must carry no secret.
    ///
    /// # Panics
    ///
    /// Panics outside a tokio runtime.
    pub fn register<C, F>(&self, place: Place, name: &str, importance: Importance, check: C)
    where
        C: Fn() -> F + Send + Sync + 'static,
        F: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        let name: Arc<str> = name.into();
        let subject = Subject {
            place,
            name: name.clone(),
            importance,
            clock: self.0.clock.clone(),
            hooks: self.0.hooks.clone(),
        };
        let check = Check::start(subject, self.0.pace.clone(), check);
        let replaced = self.checks().insert(name.clone(), check);
        if replaced.is_none() {
            self.measure(&name);
        }
    }

    /// Tells `hook` each change of a check's status from now on: its name, the
    /// status before, and the status now.
    ///
    /// The hook runs on a thread of its own kind, one call after another: it may
    /// block, and checks neither wait for it nor end with its panic. What it
    /// leaves behind more than 256 changes back is dropped, which the log tells.
    ///
    /// # Panics
    ///
    /// Panics outside a tokio runtime.
    pub fn on_transition<H>(&self, hook: H)
    where
        H: Fn(&str, Status, Status) + Send + Sync + 'static,
    {
        self.0.hooks.add(hook);
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

    /// Whether every critical check has passed once. Once true, it stays true.
    pub fn is_started(&self) -> bool {
        if self.0.started.load(Ordering::Acquire) {
            return true;
        }
        let started = self.checks().values().all(Check::has_started);
        if started {
            self.0.started.store(true, Ordering::Release);
        }
        started
    }

    /// All results as they are now; runs no check.
    pub fn report(&self) -> Report {
        let checks: Vec<_> = self.checks().values().map(Check::report).collect();
        Report {
            overall: report::worst(&checks),
            version: self.0.version,
            draining: self.0.draining.load(Ordering::Acquire),
            checks,
        }
    }

    /// Stops all checks; their last results stay.
    pub fn shutdown(&self) {
        self.checks().values().for_each(Check::stop);
    }

    fn measure(&self, name: &Arc<str>) {
        // The meter outlives the checks, and must not keep them running.
        let (health, check) = (Arc::downgrade(&self.0), name.clone());
        meter::gauge(&self.0.meter, CHECK_UP, &[(CHECK, name)], move || {
            let health = Self(health.upgrade()?);
            let status = health.checks().get(&check)?.report().status;
            match status {
                Status::Pending => None,
                Status::Up => Some(1.0),
                Status::Down => Some(0.0),
            }
        });
    }

    fn checks(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Check>> {
        // One insertion is all that happens under the lock; a panic tears nothing.
        self.0.checks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Pace ===

impl Pace {
    /// The wait before the next run, drawn so that not all processes ask at once.
    fn pause(&self) -> Duration {
        self.interval.mul_f64(0.8 + 0.4 * self.random.draw())
    }

    /// A result older than this is no result any more.
    fn stale(&self) -> Duration {
        (self.interval.mul_f64(1.2) + self.timeout) * u32::from(state::FAILURES_TO_DOWN)
    }
}

#[cfg(test)]
mod tests;
