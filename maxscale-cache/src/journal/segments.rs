//! A journal as files of one folder. This file alone touches them.
//!
//! ```text
//!  lock                       held while the journal is open
//!  00000199f2c8a1b0.journal   records, the first of this version or a later one
//!  00000199f2c8a1b0.torn      what was cut off when it was opened
//! ```
//!
//! Only the last segment is written to, and each opening begins a new one. So
//! a record of a later version never lies in an earlier file, and files are
//! removed from the oldest on: whatever is left of a key, its newest value is.
//!
//! An append that fails is cut off before the next one, which begins a segment:
//! whether a second fsync of the same file tells the truth nobody knows.

use std::collections::VecDeque;
use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;

use super::record::{Record, Rest, read_all, write_group};
use crate::error::JournalError;

const MARK: &[u8; 4] = b"MXJ\x01";
const NAME: &str = "journal";

/// The journal of one process.
#[derive(Debug)]
pub(crate) struct Segments {
    folder: PathBuf,
    kind: &'static str,
    /// A segment that is this long gets a successor.
    limit: u64,
    /// The oldest first; the last one is written to.
    all: VecDeque<Segment>,
    active: File,
    /// What the last append left on disk is unknown, as it failed.
    torn: bool,
    _lock: File,
}

#[derive(Clone, Copy, Debug)]
struct Segment {
    /// No record before it has a higher version, and no new one in it a lower.
    start: u64,
    length: u64,
}

/// What was there when a journal was opened.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Each with the place where it lies.
    pub(crate) records: Vec<(Record, u64)>,
    /// The highest version that there ever was, 0 if none is known.
    pub(crate) last: u64,
    /// How many bytes were cut off.
    pub(crate) torn: u64,
}

/// Gives an error of the system its context.
trait At<T> {
    fn at(self, step: &'static str, path: &Path) -> Result<T, JournalError>;
}

// === impl Segments ===

impl Segments {
    /// Opens the journal in `folder`, and begins a segment. Versions of what
    /// is appended are `now` at least.
    pub(crate) fn open(
        folder: &Path,
        kind: &'static str,
        limit: u64,
        now: u64,
    ) -> Result<(Self, Found), JournalError> {
        fs::create_dir_all(folder).at("create", folder)?;
        let lock = lock(folder)?;
        let mut found = Found::default();
        let mut all = VecDeque::new();
        let starts = starts(folder)?;
        for (number, start) in starts.iter().copied().enumerate() {
            let is_last = number + 1 == starts.len();
            let path = path(folder, start, NAME);
            let bytes = Bytes::from(fs::read(&path).at("read", &path)?);
            let head = head(kind);
            if !bytes.starts_with(&head) {
                return Err(JournalError::Foreign { path, kind });
            }
            let body = bytes.slice(head.len()..);
            let contents = read_all(start, &body);
            let good = head.len() + contents.length;
            if contents.rest == Rest::Damaged || (contents.rest == Rest::Torn && !is_last) {
                let at = number_of(good);
                return Err(JournalError::Damaged { path, at });
            }
            if contents.rest == Rest::Torn {
                found.torn = number_of(bytes.len() - good);
                let aside = self::path(folder, start, "torn");
                fs::write(&aside, &bytes[good..]).at("write to", &aside)?;
                cut(folder, start, number_of(good))?;
            }
            let length = number_of(good);
            all.push_back(Segment { start, length });
            let versions = contents.records.iter().map(|record| record.version);
            found.last = versions.fold(found.last.max(start), u64::max);
            let records = contents.records.into_iter();
            found.records.extend(records.map(|record| (record, start)));
        }
        let start = now.max(found.last + 1);
        let (active, segment) = begin(folder, kind, start)?;
        all.push_back(segment);
        let segments = Self {
            folder: folder.to_owned(),
            kind,
            limit,
            all,
            active,
            torn: false,
            _lock: lock,
        };
        Ok((segments, found))
    }

    /// Brings records to disk, and tells the place where they lie. New ones
    /// have versions from `next` on, which rises with each call.
    ///
    /// After an error it is unknown whether they will be found, until another
    /// call succeeds: then they will not.
    pub(crate) fn append(&mut self, next: u64, records: &[Record]) -> Result<u64, JournalError> {
        if self.torn {
            self.mend(next)?;
        }
        let done = self.try_append(next, records);
        self.torn = done.is_err();
        done
    }

    fn try_append(&mut self, next: u64, records: &[Record]) -> Result<u64, JournalError> {
        if self.active().length >= self.limit {
            self.roll(next)?;
        }
        let start = self.active().start;
        let mut bytes = Vec::new();
        write_group(start, records, &mut bytes);
        let path = path(&self.folder, start, NAME);
        self.active.write_all(&bytes).at("write to", &path)?;
        self.active.sync_data().at("sync", &path)?;
        self.active_mut().length += number_of(bytes.len());
        Ok(start)
    }

    fn mend(&mut self, next: u64) -> Result<(), JournalError> {
        let Segment { start, length } = *self.active();
        cut(&self.folder, start, length)?;
        self.begin(next)
    }

    /// Begins a segment for versions from `next` on, unless the last one is empty.
    pub(crate) fn roll(&mut self, next: u64) -> Result<(), JournalError> {
        if self.active().length > number_of(head(self.kind).len()) {
            self.begin(next)?;
        }
        Ok(())
    }

    fn begin(&mut self, next: u64) -> Result<(), JournalError> {
        let (active, segment) = begin(&self.folder, self.kind, next)?;
        self.active = active;
        self.all.push_back(segment);
        Ok(())
    }

    /// Removes the segments before the place `oldest`, or all but the last.
    pub(crate) fn trim(&mut self, oldest: Option<u64>) -> Result<(), JournalError> {
        while self.all.len() > 1
            && let Some(first) = self.all.front().copied()
            && oldest.is_none_or(|oldest| first.start < oldest)
        {
            let path = path(&self.folder, first.start, NAME);
            fs::remove_file(&path).at("remove", &path)?;
            // Else a later one might be gone after a crash, and this one not.
            sync_folder(&self.folder)?;
            self.all.pop_front();
        }
        Ok(())
    }

    /// How long all files are together.
    pub(crate) fn length(&self) -> u64 {
        self.all.iter().map(|segment| segment.length).sum()
    }

    /// The oldest place, if it is not the one that is written to.
    pub(crate) fn oldest(&self) -> Option<u64> {
        let first = self.all.front().map(|segment| segment.start);
        first.filter(|_| self.all.len() > 1)
    }

    /// The place of what is appended next, unless a segment is begun before.
    pub(crate) fn place(&self) -> u64 {
        self.active().start
    }

    fn active(&self) -> &Segment {
        self.all.back().expect("there is always one")
    }

    fn active_mut(&mut self) -> &mut Segment {
        self.all.back_mut().expect("there is always one")
    }
}

fn lock(folder: &Path) -> Result<File, JournalError> {
    let path = folder.join("lock");
    let mut options = File::options();
    let options = options.create(true).truncate(false).write(true);
    let lock = options.open(&path).at("open", &path)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(JournalError::InUse {
            place: folder.display().to_string(),
        }),
        Err(TryLockError::Error(error)) => Err(error).at("lock", &path),
    }
}

/// The segments of a folder, the oldest first. Those that were never begun
/// are removed.
fn starts(folder: &Path) -> Result<Vec<u64>, JournalError> {
    let mut starts = Vec::new();
    for entry in fs::read_dir(folder).at("list", folder)? {
        let path = entry.at("list", folder)?.path();
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        let start = stem.and_then(|stem| u64::from_str_radix(stem, 16).ok());
        match (start, path.extension().and_then(|it| it.to_str())) {
            (Some(start), Some(NAME)) => starts.push(start),
            (Some(_), Some("new")) => fs::remove_file(&path).at("remove", &path)?,
            _ => {}
        }
    }
    starts.sort_unstable();
    Ok(starts)
}

/// Makes a segment. It has its name once its head is on disk.
fn begin(folder: &Path, kind: &str, start: u64) -> Result<(File, Segment), JournalError> {
    let (new, path) = (path(folder, start, "new"), path(folder, start, NAME));
    let head = head(kind);
    let mut file = File::create(&new).at("create", &new)?;
    file.write_all(&head).at("write to", &new)?;
    file.sync_all().at("sync", &new)?;
    fs::rename(&new, &path).at("rename", &new)?;
    sync_folder(folder)?;
    let length = number_of(head.len());
    Ok((file, Segment { start, length }))
}

/// Cuts a segment where it was torn.
fn cut(folder: &Path, start: u64, good: u64) -> Result<(), JournalError> {
    let path = path(folder, start, NAME);
    let file = File::options().write(true).open(&path).at("open", &path)?;
    file.set_len(good).at("cut", &path)?;
    file.sync_all().at("sync", &path)
}

fn head(kind: &str) -> Vec<u8> {
    [MARK, &xxh3_64(kind.as_bytes()).to_le_bytes()[..]].concat()
}

fn path(folder: &Path, start: u64, extension: &str) -> PathBuf {
    folder.join(format!("{start:016x}.{extension}"))
}

fn sync_folder(folder: &Path) -> Result<(), JournalError> {
    let file = File::open(folder).at("open", folder)?;
    file.sync_all().at("sync", folder)
}

fn number_of(length: usize) -> u64 {
    u64::try_from(length).expect("a file's length")
}

// === impl At ===

impl<T> At<T> for io::Result<T> {
    fn at(self, step: &'static str, path: &Path) -> Result<T, JournalError> {
        self.map_err(|source| JournalError::Io {
            step,
            path: path.to_owned(),
            source,
        })
    }
}

#[cfg(test)]
mod tests;
