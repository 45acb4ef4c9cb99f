use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use super::{Endpoints, MOST, NEVER, Shared, all, ejections};
use crate::control::{OutlierRules, Outliers};
use crate::draw::Draw;
use crate::meter::{self, Meter};
use crate::resilience::{LONGEST, ResilienceError};

/// Builds [`Endpoints`]; see [`Endpoints::builder`].
#[derive(Clone, Debug)]
#[must_use]
pub struct EndpointsBuilder {
    set: Arc<str>,
    rules: OutlierRules,
    dry_run: bool,
    meter: Meter,
    random: Draw,
}

// === impl Endpoints ===

impl Endpoints {
    /// Starts a set that logs and metrics call `set`, which is of a closed set.
    pub fn builder(set: &str) -> EndpointsBuilder {
        EndpointsBuilder {
            set: set.into(),
            rules: OutlierRules::default(),
            dry_run: false,
            meter: meter::nowhere(),
            random: Draw::default(),
        }
    }
}

// === impl EndpointsBuilder ===

impl EndpointsBuilder {
    /// Ejects an endpoint after so many failures in a row. Default: 3.
    pub const fn failures(mut self, failures: u32) -> Self {
        self.rules.failures = failures;
        self
    }

    /// Ejects for `first`, the next time for as much longer, and for `longest` at
    /// most; up to a tenth is drawn and added. Default: 30 s and 300 s.
    pub const fn ejection(mut self, first: Duration, longest: Duration) -> Self {
        self.rules.ejection = first;
        self.rules.longest = longest;
        self
    }

    /// Ejects so many of a hundred at most, yet always one and never all. Where
    /// more fail, all are called. Default: 50.
    pub const fn percent(mut self, percent: u32) -> Self {
        self.rules.percent = percent;
        self
    }

    /// Only counts what it would eject. Default: no.
    pub const fn dry_run(mut self, dry_run: bool) -> Self {
        self.dry_run = dry_run;
        self
    }

    /// Measures ejections. Default: nothing is measured.
    pub fn meter(mut self, meter: &Meter) -> Self {
        self.meter = meter.clone();
        self
    }

    /// Draws what is added to times, a number between 0 and 1.
    ///
    /// Default: drawn anew each time.
    pub fn random(mut self, random: impl Fn() -> f64 + Send + Sync + 'static) -> Self {
        self.random = Draw::by(random);
        self
    }

    /// Finishes the set of the endpoints of these names, which are of a closed set.
    ///
    /// # Errors
    ///
    /// Returns [`ResilienceError::Bounds`] unless there are 1 to 64 names, failures
    /// are at least 1, times 1 ms to a day, the first no longer than the longest,
    /// and percent at most 100.
    pub fn build(self, names: &[&str]) -> Result<Endpoints, ResilienceError> {
        let rules = self.rules;
        let shortest = Duration::from_millis(1);
        ResilienceError::check([
            ("names", (1..=MOST).contains(&names.len())),
            ("failures", rules.failures > 0),
            (
                "ejection",
                (shortest..=rules.longest).contains(&rules.ejection) && rules.longest <= LONGEST,
            ),
            ("percent", rules.percent <= 100),
        ])?;
        let ejections = names
            .iter()
            .map(|name| ejections(&self.meter, &self.set, name));
        Ok(Endpoints(Arc::new(Shared {
            ejections: ejections.collect(),
            set: self.set,
            names: names.iter().map(|name| Arc::from(*name)).collect(),
            outliers: Mutex::new(Outliers::new(rules, names.len())),
            usable: AtomicU64::new(all(names.len())),
            soiled: AtomicU64::new(0),
            usable_until: AtomicU64::new(NEVER),
            begun: Instant::now(),
            turn: AtomicUsize::new(0),
            active: names.iter().map(|_| AtomicUsize::new(0)).collect(),
            dry_run: AtomicBool::new(self.dry_run),
            random: self.random,
        })))
    }
}
