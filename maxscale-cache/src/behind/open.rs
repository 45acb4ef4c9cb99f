//! How a write-behind starts: with what its journal holds.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use maxscale_core::meter;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use super::builder::BehindBuilder;
use super::flush::Flush;
use super::hold::Hold;
use super::keep::Keep;
use super::stats::{self, Counters};
#[cfg(feature = "redis")]
use super::store::Shared;
use super::store::{Local, Opened};
use super::unwritten::{Held, Unwritten};
use super::{Ack, Behind, Inner, Journal, Replayed, Way};
use crate::error::JournalError;
use crate::journal::Record;

/// A record, its value, and where it lies.
type Found<V> = (Record, Option<V>, u64);

impl<V> BehindBuilder<V>
where
    V: Serialize + DeserializeOwned + Send + Sync + 'static,
{
    /// Starts it. What the journal holds is there as if it had been accepted
    /// again, under the versions that it had, before this returns.
    ///
    /// If the caller gives up waiting, a stream may be in use until its lease
    /// has run out.
    ///
    /// # Errors
    ///
    /// See [`JournalError`]. Without a journal there are none.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub async fn open(self) -> Result<Behind<V>, JournalError> {
        let Some(mut opened) = self.open_journal().await? else {
            return Ok(self.start(None, Vec::new()));
        };
        let values = newest(std::mem::take(&mut opened.records));
        let decode = |(record, place)| decode(&record).map(|value| (record, value, place));
        let values: Result<Vec<_>, _> = values.into_iter().map(decode).collect();
        match values {
            Ok(values) => Ok(self.start(Some(opened), values)),
            Err(error) => {
                // Another release may read it, and shall not have to wait.
                let _ = opened.store.end(false, opened.last).await;
                Err(error)
            }
        }
    }

    async fn open_journal(&self) -> Result<Option<Opened>, JournalError> {
        let kind = self.cache.kind();
        let opened = match self.ack.clone() {
            Ack::Memory => return Ok(None),
            Ack::Journal(Journal::Folder(folder)) => {
                let now = u64::try_from(self.clock.now().as_micros()).unwrap_or(0);
                Local::open(folder, kind, now).await
            }
            #[cfg(feature = "redis")]
            Ack::Journal(Journal::Stream(stream)) => {
                let key = self.cache.key_of_behind(&stream.name);
                Shared::open(stream, None, kind, key).await
            }
            #[cfg(feature = "redis")]
            Ack::Replicated(stream, replicas) => {
                let key = self.cache.key_of_behind(&stream.name);
                Shared::open(stream, Some(replicas), kind, key).await
            }
        };
        opened.map(Some)
    }

    fn start(self, opened: Option<Opened>, values: Vec<Found<V>>) -> Behind<V> {
        let clock = match &opened {
            Some(opened) if opened.store.tells_time() => None,
            _ => Some(self.clock),
        };
        let last = opened.as_ref().map_or(0, |it| it.last);
        let unwritten = Unwritten::new(self.cache, clock, last, self.budget, self.max_delay);
        let unwritten = Arc::new(unwritten);
        let replayed = Replayed {
            values: values.len(),
            torn: opened.as_ref().map_or(0, |it| it.torn),
        };
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
            hold: opened.as_ref().map_or(Hold::Always, |it| it.hold.clone()),
            write: self.write,
            bury: self.bury,
            batch: self.batch,
            refusals: self.refusals,
            backoff: self.backoff,
            counters: Counters::register(&self.meter),
        };
        let flusher = tokio::spawn(flush.run());
        let (way, keeper) = match opened {
            None => (Way::Memory, None),
            Some(opened) => {
                let (sender, inbox) = mpsc::unbounded_channel();
                let keep = Keep::new(unwritten.clone(), opened.store, inbox);
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
