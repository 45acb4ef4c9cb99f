//! The two places of a journal, files and a stream, as write-behind uses them.
//!
//! Entries are added at the end, and removed from the oldest on. An entry of a
//! later version never lies before one of an earlier version: whatever is left
//! of an id, its newest value is. A place is a number that rises; of a folder
//! it names a file, of a stream an entry.

mod local;
#[cfg(feature = "redis")]
mod stream;

use tokio::time::{Instant, sleep_until};

use super::hold::Hold;
use crate::error::JournalError;
use crate::journal::Record;

pub(super) use local::Local;
#[cfg(feature = "redis")]
pub(super) use stream::Shared;

pub(super) enum Store {
    Local(Local),
    #[cfg(feature = "redis")]
    Stream(Box<Shared>),
}

/// A journal, and what was in it.
pub(super) struct Opened {
    pub(super) store: Store,
    /// While it is ours.
    pub(super) hold: Hold,
    /// Each with the place where it lies.
    pub(super) records: Vec<(Record, u64)>,
    /// Versions begin above it.
    pub(super) last: u64,
    /// How many bytes were cut off.
    pub(super) torn: u64,
}

/// What became of something that was added.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kept {
    pub(super) place: u64,
    /// No version from now on is lower.
    pub(super) at_least: u64,
    /// Copies that were wanted and not confirmed.
    pub(super) missing: Option<Missing>,
    /// What was added before may be gone.
    pub(super) anew: bool,
}

/// Too few replicas confirmed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Missing {
    pub(super) wanted: u32,
    pub(super) confirmed: u32,
}

// === impl Store ===

impl Store {
    /// Adds records, under numbers from `first` on that nobody had, of which
    /// there are as many. What lies before `oldest` is not needed any more.
    pub(super) async fn append(
        &mut self,
        first: u64,
        records: Vec<Record>,
        #[cfg_attr(
            not(feature = "redis"),
            expect(unused_variables, reason = "files are removed by `trim` alone")
        )]
        oldest: u64,
    ) -> Result<Kept, JournalError> {
        match self {
            Self::Local(local) => local.append(first, records).await,
            #[cfg(feature = "redis")]
            Self::Stream(stream) => stream.append(first, &records, oldest).await,
        }
    }

    /// Removes what lies before `oldest`; `None` if nothing is needed any
    /// more. `next` is a number that nobody had. Tells whether what was added
    /// before may be gone.
    pub(super) async fn trim(
        &mut self,
        oldest: Option<u64>,
        next: u64,
    ) -> Result<bool, JournalError> {
        let oldest = oldest.unwrap_or(next);
        match self {
            Self::Local(local) => local.trim(oldest).await.map(|()| false),
            #[cfg(feature = "redis")]
            Self::Stream(stream) => stream.trim(oldest).await,
        }
    }

    /// Whether it tells what time it is where it lies.
    pub(super) const fn tells_time(&self) -> bool {
        match self {
            Self::Local(_) => false,
            #[cfg(feature = "redis")]
            Self::Stream(_) => true,
        }
    }

    /// Waits until the lease has to be renewed, if there is one.
    pub(super) async fn until_renewal(&self) {
        match self.renewal() {
            Some(at) => sleep_until(at).await,
            None => std::future::pending().await,
        }
    }

    const fn renewal(&self) -> Option<Instant> {
        match self {
            Self::Local(_) => None,
            #[cfg(feature = "redis")]
            Self::Stream(stream) => Some(stream.renewal),
        }
    }

    /// Lets somebody else have it; `next` as for [`trim`](Self::trim).
    pub(super) async fn end(&mut self, is_empty: bool, next: u64) -> Result<(), JournalError> {
        match self {
            Self::Local(local) if is_empty => local.clear(next).await,
            Self::Local(_) => Ok(()),
            #[cfg(feature = "redis")]
            Self::Stream(stream) => {
                if is_empty {
                    stream.trim(next).await?;
                }
                stream.leave().await
            }
        }
    }

    /// How long it is.
    pub(super) fn length(&self) -> u64 {
        match self {
            Self::Local(local) => local.length(),
            #[cfg(feature = "redis")]
            Self::Stream(stream) => stream.length(),
        }
    }

    /// How long it may be beyond what is needed.
    pub(super) const fn slack(&self) -> u64 {
        match self {
            Self::Local(local) => 4 * local.segment,
            #[cfg(feature = "redis")]
            Self::Stream(_) => Shared::SLACK,
        }
    }

    /// The oldest place, if it can be removed.
    pub(super) fn oldest(&self) -> Option<u64> {
        match self {
            Self::Local(local) => local.oldest(),
            #[cfg(feature = "redis")]
            Self::Stream(stream) => stream.oldest(),
        }
    }
}
