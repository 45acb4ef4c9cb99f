//! Brings what is to be accepted to the journal, in groups, and only then
//! accepts it; and keeps the journal short.

use std::sync::Arc;

use bytes::Bytes;
use maxscale_core::Chain;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, oneshot};

use super::buffer::Taken;
use super::error::BehindError;
use super::store::{Kept, Store};
use super::unwritten::{Held, Unwritten};
use crate::error::JournalError;
use crate::journal::Record;

/// The most values of a group.
const GROUP: usize = 4_096;

/// A value on its way into the journal.
pub(super) struct Incoming<V> {
    pub(super) id: Arc<str>,
    pub(super) encoded: Option<Bytes>,
    pub(super) held: Held<V>,
    pub(super) told: oneshot::Sender<Result<u64, BehindError>>,
}

pub(super) struct Keep<V> {
    pub(super) unwritten: Arc<Unwritten<V>>,
    pub(super) store: Store,
    pub(super) inbox: mpsc::UnboundedReceiver<Incoming<V>>,
    state: State,
}

/// What is known of the journal.
#[derive(Clone, Copy, Debug, Default)]
struct State {
    /// What it does was refused, and the log said so.
    failing: bool,
    /// It may lack what was brought there.
    lacks: bool,
    /// It is somebody else's.
    lost: bool,
}

// === impl Keep ===

impl<V> Keep<V>
where
    V: Serialize + DeserializeOwned + Send + Sync + 'static,
{
    pub(super) fn new(
        unwritten: Arc<Unwritten<V>>,
        store: Store,
        inbox: mpsc::UnboundedReceiver<Incoming<V>>,
    ) -> Self {
        Self {
            unwritten,
            store,
            inbox,
            state: State::default(),
        }
    }

    /// Ends when nobody can send any more, with as little in the journal as
    /// possible, or when it is somebody else's.
    pub(super) async fn run(mut self) {
        let mut group = Vec::new();
        while !self.state.lost {
            tokio::select! {
                count = self.inbox.recv_many(&mut group, GROUP) => {
                    if count == 0 {
                        return self.end().await;
                    }
                    self.keep(std::mem::take(&mut group)).await;
                }
                () = self.unwritten.trim.notified() => {}
                () = self.store.until_renewal() => self.trim().await,
            }
            self.tidy().await;
        }
    }

    async fn end(mut self) {
        // What is abandoned is not here any more, and needed all the same.
        let is_empty = self.unwritten.oldest_place().is_none();
        let next = self.unwritten.draw(1);
        let ended = self.store.end(is_empty, next).await;
        self.note(&ended);
    }

    async fn keep(&mut self, group: Vec<Incoming<V>>) {
        let first = self.unwritten.draw(group.len());
        let records = group.iter().zip(first..).map(|(one, version)| Record {
            id: one.id.to_string(),
            version,
            value: one.encoded.clone(),
        });
        let records = records.collect();
        match self.append(first, records).await {
            Ok(kept) => {
                for (one, version) in group.into_iter().zip(first..) {
                    self.unwritten
                        .accept(&one.id, version, one.held, kept.place);
                    let answer = match kept.missing {
                        None => Ok(version),
                        Some(missing) => Err(BehindError::NotReplicated {
                            version,
                            wanted: missing.wanted,
                            confirmed: missing.confirmed,
                        }),
                    };
                    // Who gave up waiting has it written all the same.
                    let _ = one.told.send(answer);
                }
            }
            Err(JournalError::Lost { .. }) => {
                for one in group {
                    let _ = one.told.send(Err(BehindError::Lost));
                }
            }
            Err(error) => {
                let error = Arc::new(error);
                for one in group {
                    let _ = one.told.send(Err(BehindError::Journal(error.clone())));
                }
            }
        }
    }

    /// Removes what is not needed any more, and brings there what it may lack.
    async fn tidy(&mut self) {
        if self.state.lacks && self.bring_forward(None).await {
            self.state.lacks = false;
        }
        let Some(first) = self.store.oldest() else {
            return;
        };
        let wanted = 2 * self.unwritten.bytes() + self.store.slack();
        if self.unwritten.oldest_place() == Some(first) && self.store.length() > wanted {
            // A few values that cannot be written must not keep all that came
            // after them: they are written to the end once more.
            self.bring_forward(Some(first)).await;
        }
        if self.unwritten.oldest_place() != Some(first) {
            self.trim().await;
        }
    }

    async fn trim(&mut self) {
        let next = self.unwritten.draw(1);
        let oldest = self.unwritten.oldest_place();
        let trimmed = self.store.trim(oldest, next).await;
        self.note(&trimmed);
        self.state.lacks |= trimmed.unwrap_or(false);
    }

    /// True if what lies at a place, or anything, lies at a later one too.
    async fn bring_forward(&mut self, place: Option<u64>) -> bool {
        let values = self.unwritten.at(place);
        let record = |one: &Taken<Arc<Held<V>>>| {
            let value = one.value.value.as_deref().map(serde_json::to_vec);
            Some(Record {
                id: one.id.to_string(),
                version: one.version,
                value: value.transpose().ok()?.map(Bytes::from),
            })
        };
        let Some(records) = values.iter().map(record).collect::<Option<Vec<_>>>() else {
            return false;
        };
        if records.is_empty() {
            return true;
        }
        let first = self.unwritten.draw(records.len());
        match self.append(first, records).await {
            Ok(kept) => {
                self.unwritten.moved(&values, kept.place);
                true
            }
            Err(_) => false,
        }
    }

    async fn append(&mut self, first: u64, records: Vec<Record>) -> Result<Kept, JournalError> {
        let oldest = self.unwritten.oldest_place().unwrap_or(first);
        let kept = self.store.append(first, records, oldest).await;
        self.note(&kept);
        if let Ok(kept) = &kept {
            self.unwritten.raise(kept.at_least);
            self.state.lacks |= kept.anew;
        }
        kept
    }

    /// Nothing that was accepted is lost by a failure: what is too much is
    /// read, and written, once more.
    fn note<T>(&mut self, done: &Result<T, JournalError>) {
        let Err(error) = done else {
            self.state.failing = false;
            return;
        };
        if matches!(error, JournalError::Lost { .. }) {
            self.state.lost = true;
            self.unwritten.lose();
        }
        if !std::mem::replace(&mut self.state.failing, true) {
            tracing::error!(error = %Chain(error), "the journal of unwritten values failed");
        }
    }
}
