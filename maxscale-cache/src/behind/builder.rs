use std::fmt;
use std::future::Future;
use std::time::Duration;

use maxscale_core::BoxError;
use maxscale_core::clock::Clock;
use maxscale_core::control::Backoff;
use maxscale_core::meter::{self, Meter};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::sink::{Bury, DeadLetter, Op, SinkError, Write};
use super::{Ack, Behind};
use crate::cache::Cache;

/// Builds a [`Behind`]; see [`Behind::builder`].
#[must_use]
pub struct BehindBuilder<V> {
    pub(super) cache: Cache<V>,
    pub(super) ack: Ack,
    pub(super) write: Write<V>,
    pub(super) bury: Bury<V>,
    pub(super) batch: usize,
    pub(super) max_delay: Duration,
    pub(super) budget: u32,
    pub(super) max_wait: Duration,
    pub(super) refusals: u32,
    pub(super) backoff: Backoff,
    pub(super) clock: Clock,
    pub(super) meter: Meter,
}

// === impl BehindBuilder ===

impl<V> BehindBuilder<V>
where
    V: Serialize + DeserializeOwned + Send + Sync + 'static,
{
    pub(super) fn new<W, WF, B, BF>(cache: &Cache<V>, ack: Ack, write: W, bury: B) -> Self
    where
        W: Fn(Vec<Op<V>>) -> WF + Send + Sync + 'static,
        WF: Future<Output = Result<(), SinkError>> + Send + 'static,
        B: Fn(DeadLetter<V>) -> BF + Send + Sync + 'static,
        BF: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        Self {
            cache: cache.clone(),
            ack,
            write: Box::new(move |ops| Box::pin(write(ops))),
            bury: Box::new(move |letter| Box::pin(bury(letter))),
            batch: Behind::<V>::DEFAULT_BATCH,
            max_delay: Behind::<V>::DEFAULT_MAX_DELAY,
            budget: Behind::<V>::DEFAULT_BUDGET,
            max_wait: Behind::<V>::DEFAULT_MAX_WAIT,
            refusals: Behind::<V>::DEFAULT_REFUSALS,
            backoff: Behind::<V>::DEFAULT_BACKOFF,
            clock: Clock::system(),
            meter: meter::nowhere(),
        }
    }

    /// Sets how many values the sink gets at once, at least 1.
    ///
    /// Default: [`Behind::DEFAULT_BATCH`].
    pub fn batch(mut self, values: usize) -> Self {
        self.batch = values.max(1);
        self
    }

    /// Sets how long a value waits until it is written, unless a batch is full
    /// before. Of all values of an id that come meanwhile only the last one is
    /// written.
    ///
    /// Default: [`Behind::DEFAULT_MAX_DELAY`].
    pub const fn max_delay(mut self, delay: Duration) -> Self {
        self.max_delay = delay;
        self
    }

    /// Sets how many bytes of values, ids included, wait at most. Whoever
    /// brings more waits for room.
    ///
    /// Default: [`Behind::DEFAULT_BUDGET`].
    pub const fn budget(mut self, bytes: u32) -> Self {
        self.budget = bytes;
        self
    }

    /// Sets how long a writer waits for room.
    ///
    /// Default: [`Behind::DEFAULT_MAX_WAIT`].
    pub const fn max_wait(mut self, wait: Duration) -> Self {
        self.max_wait = wait;
        self
    }

    /// Sets after how many refusals a value is a dead letter, at least 1.
    ///
    /// Default: [`Behind::DEFAULT_REFUSALS`].
    pub fn refusals(mut self, most: u32) -> Self {
        self.refusals = most.max(1);
        self
    }

    /// Sets how long the waits are before the sink is tried again.
    ///
    /// Default: [`Behind::DEFAULT_BACKOFF`].
    pub const fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Sets the clock that versions are taken from.
    ///
    /// Default: the system's.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Sets where it counts.
    ///
    /// Default: nowhere.
    pub fn meter(mut self, meter: &Meter) -> Self {
        self.meter = meter.clone();
        self
    }
}

impl<V> fmt::Debug for BehindBuilder<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BehindBuilder")
            .field("cache", &self.cache)
            .field("ack", &self.ack)
            .finish_non_exhaustive()
    }
}
