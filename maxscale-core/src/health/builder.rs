//! What a registry is built with.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use super::hook::Hooks;
use super::{Health, Inner, Pace};
use crate::clock::Clock;
use crate::draw::Draw;
use crate::meter::{self, Meter};

/// Builds a [`Health`]; see [`Health::builder`].
#[must_use]
pub struct HealthBuilder {
    clock: Clock,
    version: &'static str,
    meter: Meter,
    pub(super) pace: Pace,
}

// === impl Health ===

impl Health {
    /// Starts a registry of the program's `version`.
    pub fn builder(clock: Clock, version: &'static str) -> HealthBuilder {
        HealthBuilder {
            clock,
            version,
            meter: meter::nowhere(),
            pace: Pace {
                interval: Self::INTERVAL,
                timeout: Self::TIMEOUT,
                random: Draw::default(),
            },
        }
    }
}

// === impl HealthBuilder ===

impl HealthBuilder {
    /// Measures each check as [`CHECK_UP`](super::CHECK_UP). Default: nothing is
    /// measured.
    pub fn meter(mut self, meter: &Meter) -> Self {
        self.meter = meter.clone();
        self
    }

    /// Sets where the jitter of the interval comes from: a draw between 0 and 1.
    ///
    /// Default: drawn anew each time.
    pub fn random(mut self, random: impl Fn() -> f64 + Send + Sync + 'static) -> Self {
        self.pace.random = Draw::by(random);
        self
    }

    /// Finishes the registry, which has no checks yet and is ready.
    pub fn build(self) -> Health {
        Health(Arc::new(Inner {
            clock: self.clock,
            pace: self.pace,
            version: self.version,
            meter: self.meter,
            draining: AtomicBool::new(false),
            started: AtomicBool::new(false),
            hooks: Arc::new(Hooks::default()),
            checks: Mutex::new(BTreeMap::new()),
        }))
    }
}

impl fmt::Debug for HealthBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HealthBuilder")
            .field("version", &self.version)
            .field("pace", &self.pace)
            .finish_non_exhaustive()
    }
}
