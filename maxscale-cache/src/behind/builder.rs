use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use maxscale_core::BoxError;
use maxscale_core::clock::Clock;
use maxscale_core::control::Backoff;
use maxscale_core::meter::{self, Meter};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use super::flush::Flush;
use super::keep::Keep;
use super::sink::{Bury, DeadLetter, Op, SinkError, Write};
use super::stats::{self, Counters};
use super::unwritten::{Held, Unwritten};
use super::{Ack, Behind, Inner, Journal, Replayed, Way};
use crate::cache::Cache;
use crate::error::JournalError;
use crate::journal::{Record, Segments};

/// Builds a [`Behind`]; see [`Behind::builder`].
#[must_use]
pub struct BehindBuilder<V> {
    cache: Cache<V>,
    ack: Ack,
    write: Write<V>,
    bury: Bury<V>,
    batch: usize,
    max_delay: Duration,
    budget: u32,
    max_wait: Duration,
    refusals: u32,
    backoff: Backoff,
    clock: Clock,
    meter: Meter,
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

    /// Starts it. What the journal holds is there as if it had been accepted
    /// again, under the versions that it had, before this returns.
    ///
    /// # Errors
    ///
    /// See [`JournalError`]. Without a journal there are none.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub async fn open(self) -> Result<Behind<V>, JournalError> {
        let Ack::Journal(journal) = self.ack.clone() else {
            return Ok(self.start(0, Replayed::default(), Vec::new(), None));
        };
        let Journal { folder, segment } = journal;
        let kind = self.cache.kind();
        let now = u64::try_from(self.clock.now().as_micros()).unwrap_or(0);
        let opening = folder.clone();
        let opened = spawn_blocking(move || Segments::open(&opening, kind, segment, now));
        let (segments, found) = opened.await.unwrap_or(Err(JournalError::Failed))?;
        if found.torn > 0 {
            let folder = folder.display();
            tracing::warn!(%folder, bytes = found.torn, "the journal's torn end was cut off");
        }
        let values = newest(found.records);
        let mut decoded = Vec::with_capacity(values.len());
        for (record, place) in values {
            let value = decode(&record)?;
            decoded.push((record, value, place));
        }
        // The segment that was begun has a number, which no version may have again.
        let last = found.last.max(segments.place());
        let replayed = Replayed {
            values: decoded.len(),
            torn: found.torn,
        };
        Ok(self.start(last, replayed, decoded, Some((segments, segment))))
    }

    fn start(
        self,
        last: u64,
        replayed: Replayed,
        values: Vec<(Record, Option<V>, u64)>,
        journal: Option<(Segments, u64)>,
    ) -> Behind<V> {
        let delay = self.max_delay;
        let unwritten = Unwritten::new(self.cache, self.clock, last, self.budget, delay);
        let unwritten = Arc::new(unwritten);
        for (record, value, place) in values {
            let size = size_of(&record.id, record.value.as_ref().map_or(0, Bytes::len));
            let room = unwritten.room.clone();
            let room = room.try_acquire_many_owned(u32::try_from(size).unwrap_or(u32::MAX));
            let held = Held {
                value: value.map(Arc::new),
                room: room.ok(),
            };
            unwritten.accept(&record.id.into(), record.version, held, place);
        }
        let waiting = Arc::downgrade(&unwritten);
        meter::gauge(&self.meter, stats::UNWRITTEN, &[], move || {
            let waiting = waiting.upgrade()?.len();
            Some(f64::from(u32::try_from(waiting).unwrap_or(u32::MAX)))
        });
        let flush = Flush {
            unwritten: unwritten.clone(),
            write: self.write,
            bury: self.bury,
            batch: self.batch,
            refusals: self.refusals,
            backoff: self.backoff,
            counters: Counters::register(&self.meter),
        };
        let flusher = tokio::spawn(flush.run());
        let (way, keeper) = match journal {
            None => (Way::Memory, None),
            Some((segments, segment)) => {
                let (sender, inbox) = mpsc::unbounded_channel();
                let keep = Keep {
                    unwritten: unwritten.clone(),
                    segments: Some(segments),
                    inbox,
                    segment,
                };
                let way = Way::Journal(Mutex::new(Some(sender)));
                (way, Some(tokio::spawn(keep.run())))
            }
        };
        Behind {
            inner: Arc::new(Inner {
                unwritten,
                way,
                max_wait: self.max_wait,
                replayed,
                flusher: Mutex::new(Some(flusher)),
                keeper: Mutex::new(keeper),
            }),
        }
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

/// What a value takes of the room: its encoded form, its id, and about what
/// keeps them.
pub(super) const fn size_of(id: &str, encoded: usize) -> usize {
    const OVERHEAD: usize = 256;
    OVERHEAD + id.len() + encoded
}

/// The newest record of each id, in the order of their versions.
fn newest(records: Vec<(Record, u64)>) -> Vec<(Record, u64)> {
    let mut newest: HashMap<String, (Record, u64)> = HashMap::new();
    for (record, place) in records {
        match newest.get_mut(&record.id) {
            // Equal where a value was brought forward: the later place counts.
            Some(known) if known.0.version <= record.version => *known = (record, place),
            Some(_) => {}
            None => {
                newest.insert(record.id.clone(), (record, place));
            }
        }
    }
    let mut newest: Vec<_> = newest.into_values().collect();
    newest.sort_unstable_by_key(|(record, _)| record.version);
    newest
}

fn decode<V: DeserializeOwned>(record: &Record) -> Result<Option<V>, JournalError> {
    let value = record.value.as_deref().map(serde_json::from_slice);
    value.transpose().map_err(|error| JournalError::Decode {
        id: record.id.clone(),
        source: error.into(),
    })
}
