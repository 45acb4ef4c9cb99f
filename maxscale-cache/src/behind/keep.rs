//! Brings what is to be accepted to the journal, in groups, and only then
//! accepts it; and keeps the journal short.

use std::sync::Arc;

use bytes::Bytes;
use maxscale_core::Chain;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_blocking;

use super::buffer::Taken;
use super::error::BehindError;
use super::unwritten::{Held, Unwritten};
use crate::error::JournalError;
use crate::journal::{Record, Segments};

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
    /// `None` after a task of ours was lost with it.
    pub(super) segments: Option<Segments>,
    pub(super) inbox: mpsc::UnboundedReceiver<Incoming<V>>,
    /// How long a segment is.
    pub(super) segment: u64,
}

// === impl Keep ===

impl<V> Keep<V>
where
    V: Serialize + DeserializeOwned + Send + Sync + 'static,
{
    /// Ends when nobody can send any more, with as little in the journal as possible.
    pub(super) async fn run(mut self) {
        let mut group = Vec::new();
        loop {
            tokio::select! {
                count = self.inbox.recv_many(&mut group, GROUP) => {
                    if count == 0 {
                        break;
                    }
                    self.keep(std::mem::take(&mut group)).await;
                }
                () = self.unwritten.trim.notified() => {}
            }
            self.tidy().await;
        }
        if self.unwritten.len() == 0 {
            let next = self.unwritten.draw(1);
            let done = self.with(move |it| it.roll(next).and_then(|()| it.trim(None)));
            warn(done.await);
        }
    }

    async fn keep(&mut self, group: Vec<Incoming<V>>) {
        let first = self.unwritten.draw(group.len());
        let records = group.iter().zip(first..).map(|(one, version)| Record {
            id: one.id.to_string(),
            version,
            value: one.encoded.clone(),
        });
        let records: Vec<_> = records.collect();
        match self.with(move |it| it.append(first, &records)).await {
            Ok(place) => {
                for (one, version) in group.into_iter().zip(first..) {
                    self.unwritten.accept(&one.id, version, one.held, place);
                    // Who gave up waiting has it written all the same.
                    let _ = one.told.send(Ok(version));
                }
            }
            Err(error) => {
                tracing::error!(error = %Chain(&error), "the journal of unwritten values failed");
                let error = Arc::new(error);
                for one in group {
                    let _ = one.told.send(Err(BehindError::Journal(error.clone())));
                }
            }
        }
    }

    /// Removes what is not needed any more.
    async fn tidy(&mut self) {
        let Some(segments) = &self.segments else {
            return;
        };
        let Some(first) = segments.oldest() else {
            return;
        };
        let mut oldest = self.unwritten.oldest_place();
        let wanted = 2 * self.unwritten.bytes() + 4 * self.segment;
        if oldest == Some(first) && segments.length() > wanted {
            // A few values that cannot be written must not keep all that came
            // after them: they are written to the end once more.
            self.bring_forward(first).await;
            oldest = self.unwritten.oldest_place();
        }
        if oldest != Some(first) {
            warn(self.with(move |it| it.trim(oldest)).await);
        }
    }

    async fn bring_forward(&mut self, place: u64) {
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
            return;
        };
        let next = self.unwritten.draw(1);
        match self.with(move |it| it.append(next, &records)).await {
            Ok(to) => self.unwritten.moved(&values, to),
            Err(error) => warn(Err(error)),
        }
    }

    /// Works on the files where that may block.
    async fn with<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Segments) -> Result<T, JournalError> + Send + 'static,
    ) -> Result<T, JournalError> {
        let Some(mut segments) = self.segments.take() else {
            return Err(JournalError::Failed);
        };
        let done = spawn_blocking(move || {
            let done = work(&mut segments);
            (segments, done)
        });
        let Ok((segments, done)) = done.await else {
            return Err(JournalError::Failed);
        };
        self.segments = Some(segments);
        done
    }
}

/// Nothing is lost by it: what is too much is read, and written, once more.
fn warn(done: Result<(), JournalError>) {
    if let Err(error) = done {
        tracing::warn!(error = %Chain(&error), "the journal of unwritten values stays longer than it has to be");
    }
}
