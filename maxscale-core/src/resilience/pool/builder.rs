use std::sync::atomic::{AtomicBool, AtomicU8};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{CALM, PoolGuard, Shared, counter};
use crate::control::{Fill, Pressure, PressureRules};
use crate::meter::{self, Meter};
use crate::resilience::{LONGEST, Priority, ResilienceError};

/// Builds a [`PoolGuard`]; see [`PoolGuard::builder`].
#[derive(Clone, Debug)]
#[must_use]
pub struct PoolGuardBuilder {
    name: Arc<str>,
    rules: PressureRules,
    first: Priority,
    dry_run: bool,
    meter: Meter,
}

// === impl PoolGuard ===

impl PoolGuard {
    /// Starts a guard that logs and metrics call `name`, which is of a closed set.
    pub fn builder(name: &str) -> PoolGuardBuilder {
        PoolGuardBuilder {
            name: name.into(),
            rules: PressureRules::default(),
            first: Priority::LOW,
            dry_run: false,
            meter: meter::nowhere(),
        }
    }
}

// === impl PoolGuardBuilder ===

impl PoolGuardBuilder {
    /// Refuses what matters least from the part `high` on, all that is not critical
    /// from `highest` on, and nothing any more at `over`.
    ///
    /// Default: 0.85, 0.95 and 0.7.
    pub const fn parts(mut self, high: f64, highest: f64, over: f64) -> Self {
        self.rules.high = high;
        self.rules.highest = highest;
        self.rules.over = over;
        self
    }

    /// Sets how long `high` lasts, and is waited for, before it counts. Default: 50 ms.
    pub const fn patience(mut self, patience: Duration) -> Self {
        self.rules.patience = patience;
        self
    }

    /// Refuses this and all that matters less first. Default: [`Priority::LOW`].
    pub const fn first(mut self, priority: Priority) -> Self {
        self.first = priority;
        self
    }

    /// Only counts what it would refuse. Default: no.
    pub const fn dry_run(mut self, dry_run: bool) -> Self {
        self.dry_run = dry_run;
        self
    }

    /// Measures requests. Default: nothing is measured.
    pub fn meter(mut self, meter: &Meter) -> Self {
        self.meter = meter.clone();
        self
    }

    /// Finishes a guard that reads how full the pool is by `read`, with each request:
    /// it must not block. `None`: nothing is known.
    ///
    /// # Errors
    ///
    /// Returns [`ResilienceError::Bounds`] unless 0 < over < high < highest <= 1, the
    /// patience is at most a day, and `first` is not critical.
    pub fn build<F>(self, read: F) -> Result<PoolGuard, ResilienceError>
    where
        F: Fn() -> Option<Fill> + Send + Sync + 'static,
    {
        let rules = self.rules;
        let order = 0.0 < rules.over && rules.over < rules.high && rules.high < rules.highest;
        ResilienceError::check([
            ("parts", order && rules.highest <= 1.0),
            ("patience", rules.patience <= LONGEST),
            ("first", self.first > Priority::CRITICAL),
        ])?;
        let counter = |outcome| counter(&self.meter, &self.name, outcome);
        Ok(PoolGuard(Arc::new(Shared {
            passed: counter("passed"),
            refused: counter("refused"),
            would_refuse: counter("would_refuse"),
            read: Box::new(read),
            rules,
            pressure: Mutex::new(Pressure::new(rules)),
            told: AtomicU8::new(CALM),
            first: self.first,
            dry_run: AtomicBool::new(self.dry_run),
            name: self.name,
        })))
    }
}
