use std::path::{Path, PathBuf};

/// When a value counts as accepted.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Ack {
    /// As soon as this process has it. What is not written is lost with it.
    Memory,
    /// As soon as the journal has it on disk. The next process that opens the
    /// journal writes what this one did not.
    Journal(Journal),
}

/// Where values lie until they are written.
#[derive(Clone, Debug)]
#[must_use]
pub struct Journal {
    pub(super) folder: PathBuf,
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
    /// How long a file is when nothing else is given, in bytes.
    pub const DEFAULT_SEGMENT: u64 = 8 << 20;

    /// Files in `folder`, which is made if it is missing, and which no other
    /// process may have open.
    pub fn folder(folder: impl AsRef<Path>) -> Self {
        Self {
            folder: PathBuf::from(folder.as_ref()),
            segment: Self::DEFAULT_SEGMENT,
        }
    }

    /// Sets how long a file gets before the next one is begun, in bytes.
    ///
    /// Default: [`Journal::DEFAULT_SEGMENT`].
    pub const fn segment(mut self, bytes: u64) -> Self {
        self.segment = bytes;
        self
    }
}
