//! A journal in files of this machine, which are worked on where that may block.

use tokio::task::spawn_blocking;

use super::{Kept, Opened, Store};
use crate::behind::Folder;
use crate::behind::hold::Hold;
use crate::error::JournalError;
use crate::journal::{Record, Segments};

pub(in crate::behind) struct Local {
    /// `None` after a task of ours was lost with it.
    segments: Option<Segments>,
    /// How long a segment is.
    pub(super) segment: u64,
}

// === impl Local ===

impl Local {
    /// Versions begin at `now` at least.
    pub(in crate::behind) async fn open(
        folder: Folder,
        kind: &'static str,
        now: u64,
    ) -> Result<Opened, JournalError> {
        let Folder { path, segment } = folder;
        let opening = path.clone();
        let opened = spawn_blocking(move || Segments::open(&opening, kind, segment, now));
        let (segments, found) = opened.await.unwrap_or(Err(JournalError::Failed))?;
        if found.torn > 0 {
            let folder = path.display();
            tracing::warn!(%folder, bytes = found.torn, "the journal's torn end was cut off");
        }
        // The segment that was begun has a number, which no version may have again.
        let last = found.last.max(segments.place());
        let local = Self {
            segments: Some(segments),
            segment,
        };
        Ok(Opened {
            store: Store::Local(local),
            hold: Hold::Always,
            records: found.records,
            last,
            torn: found.torn,
        })
    }

    pub(super) async fn append(
        &mut self,
        first: u64,
        records: Vec<Record>,
    ) -> Result<Kept, JournalError> {
        let place = self.with(move |it| it.append(first, &records)).await?;
        Ok(Kept {
            place,
            at_least: 0,
            missing: None,
            anew: false,
        })
    }

    pub(super) async fn trim(&mut self, oldest: u64) -> Result<(), JournalError> {
        self.with(move |it| it.trim(Some(oldest))).await
    }

    /// Leaves as little as possible.
    pub(super) async fn clear(&mut self, next: u64) -> Result<(), JournalError> {
        self.with(move |it| it.roll(next).and_then(|()| it.trim(None)))
            .await
    }

    pub(super) fn length(&self) -> u64 {
        self.segments.as_ref().map_or(0, Segments::length)
    }

    pub(super) fn oldest(&self) -> Option<u64> {
        self.segments.as_ref().and_then(Segments::oldest)
    }

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
