//! Texts on disk: what L2 has not confirmed, each in a record of a journal.
//!
//! All that wait are written together. They go when none of them is needed any
//! more, or most are not.
//!
//! What the texts mean is not known here.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Mutex as Turn;
use tokio::task::spawn_blocking;

use crate::error::JournalError;
use crate::journal::{Record, Segments};

/// Tells them from the values of a cache. `!` is in no name of one.
const KIND: &str = "!invalidations";

/// How long a file gets.
const SEGMENT: u64 = 8 << 20;

/// Records that nobody needs may lie about until there are so many, and twice
/// as many as are needed.
const SLACK: usize = 1_024;

#[derive(Clone, Debug)]
pub(crate) struct Notes(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    queue: Mutex<Queue>,
    /// The number of the last record that is on disk.
    written: AtomicU64,
    /// One writes, and those who wait find theirs written too.
    turn: Turn<()>,
    disk: Mutex<Disk>,
}

/// What is to be written.
#[derive(Debug)]
struct Queue {
    records: Vec<Record>,
    /// The last number that was given.
    last: u64,
}

#[derive(Debug)]
struct Disk {
    segments: Segments,
    records: usize,
}

// === impl Notes ===

impl Notes {
    /// Opens or creates the folder, and reads what is in it. Blocks.
    pub(crate) fn open(folder: &Path) -> Result<(Self, Vec<String>), JournalError> {
        let (mut segments, found) = Segments::open(folder, KIND, SEGMENT, 1)?;
        if found.torn > 0 {
            let folder = folder.display();
            tracing::warn!(%folder, bytes = found.torn, "the journal's torn end was cut off");
        }
        if found.records.is_empty() {
            segments.trim(None)?;
        }
        let last = found.last.max(segments.place());
        let inner = Inner {
            queue: Mutex::new(Queue {
                records: Vec::new(),
                last,
            }),
            written: AtomicU64::new(last),
            turn: Turn::default(),
            disk: Mutex::new(Disk {
                segments,
                records: found.records.len(),
            }),
        };
        let texts = found.records.into_iter().map(|(record, _)| record.id);
        Ok((Self(Arc::new(inner)), texts.collect()))
    }

    /// Adds a record, to be written by the next [`sync`](Self::sync), and returns
    /// its number.
    pub(crate) fn push(&self, text: &str) -> u64 {
        let mut queue = self.0.queue();
        let number = queue.draw();
        queue.records.push(record(text.to_owned(), number));
        number
    }

    /// Returns once the record `number` is on disk. May be dropped.
    pub(crate) async fn sync(&self, number: u64) -> Result<(), JournalError> {
        let _turn = self.0.turn.lock().await;
        if self.0.written.load(Ordering::SeqCst) >= number {
            return Ok(());
        }
        self.blocking(Inner::write).await
    }

    /// Drops the records that nobody needs, if it is worth while. `needed` says
    /// which others there are; it is asked while nothing is written.
    pub(crate) async fn tidy<N>(&self, needed: N) -> Result<(), JournalError>
    where
        N: FnOnce() -> Vec<String> + Send + 'static,
    {
        self.blocking(|inner| inner.tidy(needed)).await
    }

    async fn blocking(
        &self,
        work: impl FnOnce(&Inner) -> Result<(), JournalError> + Send + 'static,
    ) -> Result<(), JournalError> {
        let inner = self.0.clone();
        let done = spawn_blocking(move || work(&inner)).await;
        done.unwrap_or(Err(JournalError::Failed))
    }
}

// === impl Inner ===

impl Inner {
    fn write(&self) -> Result<(), JournalError> {
        let mut disk = self.disk();
        let (records, next) = {
            let mut queue = self.queue();
            (std::mem::take(&mut queue.records), queue.draw())
        };
        match disk.segments.append(next, &records) {
            Ok(_) => {
                disk.records += records.len();
                self.written.fetch_max(next, Ordering::SeqCst);
                Ok(())
            }
            Err(error) => {
                // Before what came meanwhile; the next one tries again.
                self.queue().records.splice(..0, records);
                Err(error)
            }
        }
    }

    fn tidy(&self, needed: impl FnOnce() -> Vec<String>) -> Result<(), JournalError> {
        let mut disk = self.disk();
        if disk.records == 0 {
            return Ok(());
        }
        let texts = needed();
        if texts.is_empty() {
            disk.segments.roll(self.queue().draw())?;
            disk.segments.trim(None)?;
        } else if disk.records > 2 * texts.len() + SLACK {
            disk.segments.roll(self.queue().draw())?;
            let next = self.queue().draw();
            let records = texts.iter().map(|text| record(text.clone(), next));
            let place = disk.segments.append(next, &records.collect::<Vec<_>>())?;
            disk.segments.trim(Some(place))?;
        } else {
            return Ok(());
        }
        disk.records = texts.len();
        Ok(())
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Queue ===

impl Queue {
    const fn draw(&mut self) -> u64 {
        self.last += 1;
        self.last
    }
}

const fn record(text: String, number: u64) -> Record {
    Record {
        id: text,
        version: number,
        value: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXTS: [&str; 3] = ["d:user:1", "a:user:", "t:user:red"];

    fn open(folder: &Path) -> (Notes, Vec<String>) {
        Notes::open(folder).unwrap()
    }

    async fn write(notes: &Notes, texts: &[&str]) {
        let numbers: Vec<_> = texts.iter().map(|text| notes.push(text)).collect();
        for number in numbers {
            notes.sync(number).await.unwrap();
        }
    }

    fn length(notes: &Notes) -> u64 {
        notes.0.disk().segments.length()
    }

    #[tokio::test]
    async fn what_was_synced_is_there_again_and_what_comes_then_is_after_it() {
        let folder = tempfile::tempdir().unwrap();
        write(&open(folder.path()).0, &TEXTS).await;
        let (notes, texts) = open(folder.path());
        assert_eq!(texts, TEXTS);
        notes.push("never synced");
        drop(notes);
        let (notes, texts) = open(folder.path());
        assert_eq!(texts, TEXTS);
        write(&notes, &["s:user:9"]).await;
        drop(notes);
        let (_, texts) = open(folder.path());
        assert_eq!(texts, [&TEXTS[..], &["s:user:9"]].concat());
    }

    #[tokio::test]
    async fn two_never_have_the_same_folder() {
        let folder = tempfile::tempdir().unwrap();
        let first = open(folder.path());
        let second = Notes::open(folder.path());
        assert!(
            matches!(second, Err(JournalError::InUse { .. })),
            "{second:?}"
        );
        drop(first);
        open(folder.path());
    }

    #[tokio::test]
    async fn records_that_nobody_needs_are_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let (notes, _) = open(folder.path());
        let empty = length(&notes);
        write(&notes, &TEXTS[..1]).await;
        let one = length(&notes);
        for _ in 1..SLACK {
            notes.push(TEXTS[0]);
        }
        write(&notes, &TEXTS).await;
        let tidy = async |needed: &'static [&'static str]| {
            let needed = move || needed.iter().map(|text| (*text).to_owned()).collect();
            notes.tidy(needed).await.unwrap();
            length(&notes)
        };
        let many = length(&notes);
        assert_eq!(tidy(&TEXTS).await, many, "not worth while");
        assert_eq!(tidy(&TEXTS[..1]).await, one);
        write(&notes, &TEXTS[1..]).await;
        drop(notes);
        let (notes, texts) = open(folder.path());
        assert_eq!(texts, TEXTS);
        notes.tidy(Vec::new).await.unwrap();
        assert_eq!(length(&notes), empty);
        write(&notes, &TEXTS[1..]).await;
        drop(notes);
        assert_eq!(open(folder.path()).1, TEXTS[1..]);
    }
}
