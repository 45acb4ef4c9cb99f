#[cfg(feature = "redis")]
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

#[cfg(feature = "redis")]
use super::Stream;

/// When a value counts as accepted.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Ack {
    /// As soon as this process has it. What is not written is lost with it.
    Memory,
    /// As soon as the journal has it on disk. The next process that opens the
    /// journal writes what this one did not.
    Journal(Journal),
    /// As soon as the stream has it on the disk of the server, and so many of
    /// its replicas have confirmed that they got it. If they do not in time,
    /// the value is accepted all the same, and the caller gets
    /// [`BehindError::NotReplicated`](super::BehindError::NotReplicated).
    #[cfg(feature = "redis")]
    Replicated(Stream, NonZeroU32),
}

/// Where values lie until they are written.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Journal {
    /// On this machine.
    Folder(Folder),
    /// In Redis, so that another machine can go on.
    #[cfg(feature = "redis")]
    Stream(Stream),
}

/// Files in a folder, in which values lie until they are written.
#[derive(Clone, Debug)]
#[must_use]
pub struct Folder {
    pub(super) path: PathBuf,
    /// How long a file gets.
    pub(super) segment: u64,
}

/// What was found in the journal when it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Replayed {
    /// Values that are to be written, or to be written again.
    pub values: usize,
    /// Bytes of the last file that were cut off, because writing them was cut
    /// short: no value in them was acknowledged.
    pub torn: u64,
}

// === impl Journal ===

impl Journal {
    /// Files in `path`; see [`Folder::new`].
    #[must_use]
    pub fn folder(path: impl AsRef<Path>) -> Self {
        Self::Folder(Folder::new(path))
    }
}

impl From<Folder> for Journal {
    fn from(folder: Folder) -> Self {
        Self::Folder(folder)
    }
}

#[cfg(feature = "redis")]
impl From<Stream> for Journal {
    fn from(stream: Stream) -> Self {
        Self::Stream(stream)
    }
}

// === impl Folder ===

impl Folder {
    /// How long a file is when nothing else is given, in bytes.
    pub const DEFAULT_SEGMENT: u64 = 8 << 20;

    /// Files in `path`, which is made if it is missing, and which no other
    /// process may have open.
    pub fn new(path: impl AsRef<Path>) -> Self {
        Self {
            path: path.as_ref().to_owned(),
            segment: Self::DEFAULT_SEGMENT,
        }
    }

    /// Sets how long a file gets before the next one is begun, in bytes.
    ///
    /// Default: [`Folder::DEFAULT_SEGMENT`].
    pub const fn segment(mut self, bytes: u64) -> Self {
        self.segment = bytes;
        self
    }
}
