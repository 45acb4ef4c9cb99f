use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tokio::sync::Semaphore;

use super::places::Places;
use super::{Bulkhead, Shared, Told};
use crate::meter::{self, Meter};
use crate::resilience::{LONGEST, ResilienceError};

/// Builds a [`Bulkhead`]; see [`Bulkhead::builder`].
#[derive(Clone, Debug)]
#[must_use]
pub struct BulkheadBuilder {
    name: Arc<str>,
    places: usize,
    max_wait: Duration,
    max_keys: usize,
    dry_run: bool,
    meter: Meter,
}

// === impl Bulkhead ===

impl Bulkhead {
    /// How long a request waits at most when nothing is set.
    pub const DEFAULT_MAX_WAIT: Duration = Duration::from_millis(100);

    /// How many keys may have requests at a time when nothing is set.
    pub const DEFAULT_MAX_KEYS: usize = 10_000;

    /// Starts a bulkhead of so many `places`, for each key if it has keys. Logs and
    /// metrics call it `name`, which is of a closed set.
    pub fn builder(name: &str, places: usize) -> BulkheadBuilder {
        BulkheadBuilder {
            name: name.into(),
            places,
            max_wait: Self::DEFAULT_MAX_WAIT,
            max_keys: Self::DEFAULT_MAX_KEYS,
            dry_run: false,
            meter: meter::nowhere(),
        }
    }
}

// === impl BulkheadBuilder ===

impl BulkheadBuilder {
    /// Sets how long a request waits for a place, at most until its deadline.
    /// Nothing bounds how many wait but this. Zero: none does.
    ///
    /// Default: [`Bulkhead::DEFAULT_MAX_WAIT`].
    pub const fn max_wait(mut self, wait: Duration) -> Self {
        self.max_wait = wait;
        self
    }

    /// Sets how many keys may have requests at a time; those of others are refused.
    ///
    /// Default: [`Bulkhead::DEFAULT_MAX_KEYS`].
    pub const fn max_keys(mut self, keys: usize) -> Self {
        self.max_keys = keys;
        self
    }

    /// Only counts what it would refuse, and has nobody wait. Default: no.
    pub const fn dry_run(mut self, dry_run: bool) -> Self {
        self.dry_run = dry_run;
        self
    }

    /// Measures what is asked for, and what holds and waits for places. Default:
    /// nothing is measured.
    pub fn meter(mut self, meter: &Meter) -> Self {
        self.meter = meter.clone();
        self
    }

    /// Finishes a bulkhead without keys: all requests share its places.
    ///
    /// # Errors
    ///
    /// Returns [`ResilienceError::Bounds`] unless there is a place, and the wait is at
    /// most a day.
    pub fn build(self) -> Result<Bulkhead, ResilienceError> {
        self.check()?;
        let places = Places::Whole(Semaphore::new(self.places));
        Ok(self.finish(places))
    }

    /// Finishes a bulkhead that has as many places for each key.
    ///
    /// # Errors
    ///
    /// As [`build`](Self::build), and unless there may be a key.
    pub fn build_keyed<K>(self) -> Result<Bulkhead<K>, ResilienceError>
    where
        K: Hash + Eq + Clone,
    {
        self.check()?;
        let places = Places::keyed(self.places, self.max_keys);
        Ok(self.finish(places))
    }

    fn check(&self) -> Result<(), ResilienceError> {
        ResilienceError::check([
            (
                "places",
                (1..=Semaphore::MAX_PERMITS).contains(&self.places),
            ),
            ("max_wait", self.max_wait <= LONGEST),
            ("max_keys", self.max_keys > 0),
        ])
    }

    fn finish<K>(self, places: Places<K>) -> Bulkhead<K> {
        Bulkhead(Arc::new(Shared {
            told: Told::new(&self.meter, &self.name),
            name: self.name,
            places,
            max_wait: self.max_wait,
            dry_run: AtomicBool::new(self.dry_run),
        }))
    }
}
