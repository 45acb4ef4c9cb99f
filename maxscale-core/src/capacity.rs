//! How full what is bounded is, and when it will be full.
//!
//! Whoever knows a bound registers two closures, `used` and `limit`
//! ([`Capacity::register`]); they are read in the background. A resource that is
//! 75 % full is a warning and one that is 90 % full is critical, once three
//! readings in a row say so, and no longer once three in a row are five points
//! below. The change is broadcast and logged, the ratio and the time until it
//! is full are metrics. It frees nothing: whoever listens does.

mod level;
mod resource;
mod trend;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::broadcast;

use crate::clock::Clock;
use crate::meter::{self, Meter, Metric};

pub use level::Level;

use level::Thresholds;
use resource::Resource;

/// How full a resource is, from 0 to 1.
pub const RATIO: Metric = Metric::new(
    "maxscale.capacity.used",
    "1",
    "The part of a bounded resource that is used.",
);

/// When a resource will be full if it goes on like this.
pub const EXHAUSTED_IN: Metric = Metric::new(
    "maxscale.capacity.exhausted_in",
    "s",
    "Time until a resource is full at the rate of the last minutes.",
);

/// The label of both metrics: the resource's name.
const RESOURCE: &str = "resource";

/// The bounded resources of this process. Clones share them.
///
/// Reading stops when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct Capacity(Arc<Inner>);

/// Builds a [`Capacity`]; see [`Capacity::builder`].
#[derive(Clone, Debug)]
#[must_use]
pub struct CapacityBuilder {
    clock: Clock,
    meter: Meter,
    warning: f64,
    critical: f64,
    interval: Duration,
}

/// A resource is fuller, or less full, than before.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Change {
    /// The resource's name.
    pub name: Arc<str>,
    /// The level before.
    pub from: Level,
    /// The level now.
    pub to: Level,
    /// How full it is, from 0 to 1 and beyond.
    pub ratio: f64,
    /// When it will be full if it goes on like this; `None` if it will not.
    pub exhausted_in: Option<Duration>,
}

/// The last reading of a resource.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Reading {
    /// The resource's name.
    pub name: Arc<str>,
    /// How full it counts as.
    pub level: Level,
    /// How full it is, from 0 to 1 and beyond; `None` before the first reading.
    pub ratio: Option<f64>,
    /// When it will be full if it goes on like this; `None` if it will not.
    pub exhausted_in: Option<Duration>,
}

/// A [`Capacity`] was given values that cannot be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CapacityError {
    /// A value is out of bounds.
    #[error("{field} is out of bounds")]
    Bounds {
        /// The setter that took it.
        field: &'static str,
    },
}

#[derive(Debug)]
struct Inner {
    clock: Clock,
    meter: Meter,
    thresholds: Thresholds,
    interval: Duration,
    changes: broadcast::Sender<Change>,
    resources: Mutex<BTreeMap<Arc<str>, Resource>>,
}

/// How many changes a listener that is slow may be behind.
const BEHIND: usize = 64;

// === impl Capacity ===

impl Capacity {
    /// The part from which on a resource is a warning when nothing is set.
    pub const DEFAULT_WARNING: f64 = 0.75;

    /// The part from which on a resource is critical when nothing is set.
    pub const DEFAULT_CRITICAL: f64 = 0.9;

    /// The time between two readings when nothing is set.
    pub const DEFAULT_INTERVAL: Duration = Duration::from_secs(10);

    /// Starts without resources.
    pub fn builder(clock: Clock) -> CapacityBuilder {
        CapacityBuilder {
            clock,
            meter: meter::nowhere(),
            warning: Self::DEFAULT_WARNING,
            critical: Self::DEFAULT_CRITICAL,
            interval: Self::DEFAULT_INTERVAL,
        }
    }

    /// Reads a resource from now on. `None` and a limit that is no positive
    /// number leave a reading out. One of the same name is replaced.
    ///
    /// Both are called where they may block; one that hangs or panics costs only
    /// its own reading.
    ///
    /// # Panics
    ///
    /// Panics outside a tokio runtime.
    pub fn register<U, L>(&self, name: &str, used: U, limit: L)
    where
        U: Fn() -> Option<f64> + Send + Sync + 'static,
        L: Fn() -> Option<f64> + Send + Sync + 'static,
    {
        let name: Arc<str> = name.into();
        let read = move || Some((used()?, limit()?));
        let resource = Resource::start(
            name.clone(),
            self.0.clock.clone(),
            self.0.thresholds,
            self.0.interval,
            self.0.changes.clone(),
            read,
        );
        let replaced = self.resources().insert(name.clone(), resource);
        if replaced.is_none() {
            self.measure(&name);
        }
    }

    /// Hears of each change from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Change> {
        self.0.changes.subscribe()
    }

    /// The last readings, by name.
    pub fn report(&self) -> Vec<Reading> {
        self.resources().values().map(Resource::reading).collect()
    }

    fn measure(&self, name: &Arc<str>) {
        let labels = &[(RESOURCE, &**name)];
        meter::gauge(&self.0.meter, RATIO, labels, self.read(name, |it| it.ratio));
        let exhausted_in = |it: Reading| Some(it.exhausted_in?.as_secs_f64());
        let exhausted_in = self.read(name, exhausted_in);
        meter::gauge(&self.0.meter, EXHAUSTED_IN, labels, exhausted_in);
    }

    fn read(
        &self,
        name: &Arc<str>,
        value: impl Fn(Reading) -> Option<f64> + Send + Sync + 'static,
    ) -> impl Fn() -> Option<f64> + Send + Sync + 'static {
        // The meter outlives the resources, and must not keep them read.
        let (capacity, name) = (Arc::downgrade(&self.0), name.clone());
        move || {
            let capacity = Self(capacity.upgrade()?);
            let reading = capacity.resources().get(&name)?.reading();
            value(reading)
        }
    }

    fn resources(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Resource>> {
        // One insertion is all that happens under the lock; a panic tears nothing.
        self.0
            .resources
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl CapacityBuilder ===

impl CapacityBuilder {
    /// Sets the part from which on a resource is a warning.
    ///
    /// Default: [`Capacity::DEFAULT_WARNING`].
    pub const fn warning(mut self, part: f64) -> Self {
        self.warning = part;
        self
    }

    /// Sets the part from which on a resource is critical.
    ///
    /// Default: [`Capacity::DEFAULT_CRITICAL`].
    pub const fn critical(mut self, part: f64) -> Self {
        self.critical = part;
        self
    }

    /// Sets the time between two readings.
    ///
    /// Default: [`Capacity::DEFAULT_INTERVAL`].
    pub const fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// Measures each resource as [`RATIO`] and [`EXHAUSTED_IN`]. Default: nothing
    /// is measured.
    pub fn meter(mut self, meter: &Meter) -> Self {
        self.meter = meter.clone();
        self
    }

    /// Finishes; nothing is read yet.
    ///
    /// # Errors
    ///
    /// Returns [`CapacityError::Bounds`] unless 0.05 < warning < critical <= 1
    /// and the interval is between 1 ms and a day.
    pub fn build(self) -> Result<Capacity, CapacityError> {
        let thresholds = Thresholds::new(self.warning, self.critical)?;
        if self.interval < SHORTEST || self.interval > LONGEST {
            return Err(CapacityError::Bounds { field: "interval" });
        }
        Ok(Capacity(Arc::new(Inner {
            clock: self.clock,
            meter: self.meter,
            thresholds,
            interval: self.interval,
            changes: broadcast::Sender::new(BEHIND),
            resources: Mutex::default(),
        })))
    }
}

const SHORTEST: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_secs(86_400);

// === impl Change ===

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = self.ratio * 100.0;
        write!(f, "{} is {percent:.0} % full", self.name)?;
        match self.exhausted_in {
            Some(left) => write!(f, ", and full in {} s", left.as_secs()),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
