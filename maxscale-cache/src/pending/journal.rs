//! Texts on disk: each in a record of its own, whole or not there.
//!
//! ```text
//!  length (4 bytes) | xxh3 of the text (8 bytes) | text      lowest byte first
//! ```
//!
//! Records are added at the end, all that wait by one write and one sync. They
//! go when none of them is needed any more, or most are not. What a crash left
//! of the last one is cut off.
//!
//! What the texts mean is not known here.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::task::spawn_blocking;
use xxhash_rust::xxh3::xxh3_64;

use crate::error::JournalError;

const HEAD: usize = 12;

/// Records that nobody needs may lie about until there are so many, and twice
/// as many as are needed.
const SLACK: usize = 1_024;

#[derive(Clone, Debug)]
pub(crate) struct Journal(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    queue: Mutex<Queue>,
    /// The number of the last record that is on disk.
    written: AtomicU64,
    /// One writes, and those who wait find theirs written too.
    turn: tokio::sync::Mutex<()>,
    disk: Mutex<Disk>,
}

/// What is to be written.
#[derive(Debug, Default)]
struct Queue {
    bytes: Vec<u8>,
    records: usize,
    /// The number of the last record.
    last: u64,
}

#[derive(Debug)]
struct Disk {
    path: PathBuf,
    file: File,
    /// Up to here it is whole.
    len: u64,
    records: usize,
    /// Held for its lock; the file itself is replaced now and then.
    _lock: File,
}

// === impl Journal ===

impl Journal {
    /// Opens or creates the file, and reads what is in it. Blocks.
    pub(crate) fn open(path: &Path) -> Result<(Self, Vec<String>), JournalError> {
        let failed = |source| JournalError::Open {
            path: path.to_owned(),
            source,
        };
        let open = |path: &Path| {
            let mut options = OpenOptions::new();
            let options = options.read(true).write(true).create(true).truncate(false);
            options.open(path).map_err(failed)
        };
        let lock = open(&path.with_added_extension("lock"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(JournalError::InUse {
                    path: path.to_owned(),
                });
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let mut file = open(path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(failed)?;
        let (texts, whole) = read(&bytes);
        if whole < bytes.len() {
            let torn = bytes.len() - whole;
            tracing::warn!(path = %path.display(), torn, "the journal's last record is cut off");
        }
        let mut disk = Disk {
            path: path.to_owned(),
            file,
            len: whole as u64,
            records: texts.len(),
            _lock: lock,
        };
        disk.cut().map_err(failed)?;
        sync_folder(path).map_err(failed)?;
        let inner = Inner {
            queue: Mutex::default(),
            written: AtomicU64::new(0),
            turn: tokio::sync::Mutex::default(),
            disk: Mutex::new(disk),
        };
        Ok((Self(Arc::new(inner)), texts))
    }

    /// Adds a record, to be written by the next [`sync`](Self::sync), and returns
    /// its number.
    pub(crate) fn push(&self, text: &str) -> u64 {
        let mut queue = self.0.queue();
        push_record(&mut queue.bytes, text);
        queue.records += 1;
        queue.last += 1;
        queue.last
    }

    /// Returns once the record `number` is on disk. May be dropped.
    pub(crate) async fn sync(&self, number: u64) -> io::Result<()> {
        let _turn = self.0.turn.lock().await;
        if self.0.written.load(Ordering::SeqCst) >= number {
            return Ok(());
        }
        let inner = self.0.clone();
        spawn_blocking(move || inner.write()).await?
    }

    /// Drops the records that nobody needs, if it is worth while. `needed` says
    /// which others there are; it is asked while nothing is written.
    pub(crate) async fn tidy<N>(&self, needed: N) -> io::Result<()>
    where
        N: FnOnce() -> Vec<String> + Send + 'static,
    {
        let inner = self.0.clone();
        spawn_blocking(move || {
            let mut disk = inner.disk();
            if disk.records == 0 {
                return Ok(());
            }
            disk.keep(&needed())
        })
        .await?
    }
}

// === impl Inner ===

impl Inner {
    fn write(&self) -> io::Result<()> {
        let mut disk = self.disk();
        let (bytes, records, last) = {
            let mut queue = self.queue();
            let records = std::mem::take(&mut queue.records);
            (std::mem::take(&mut queue.bytes), records, queue.last)
        };
        let written = disk.append(&bytes, records);
        if written.is_ok() {
            self.written.fetch_max(last, Ordering::SeqCst);
        } else {
            // Before what came meanwhile; the next one tries again.
            let mut queue = self.queue();
            let later = std::mem::replace(&mut queue.bytes, bytes);
            queue.bytes.extend(later);
            queue.records += records;
        }
        written
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Disk ===

impl Disk {
    fn append(&mut self, bytes: &[u8], records: usize) -> io::Result<()> {
        // What an attempt that failed left there is written over.
        self.cut()?;
        self.file.write_all(bytes)?;
        self.file.sync_data()?;
        self.len += bytes.len() as u64;
        self.records += records;
        Ok(())
    }

    fn keep(&mut self, texts: &[String]) -> io::Result<()> {
        if texts.is_empty() {
            (self.len, self.records) = (0, 0);
            return self.cut();
        }
        if self.records <= 2 * texts.len() + SLACK {
            return Ok(());
        }
        let mut bytes = Vec::new();
        for text in texts {
            push_record(&mut bytes, text);
        }
        let next = self.path.with_added_extension("next");
        let mut file = File::create(&next)?;
        file.write_all(&bytes)?;
        file.sync_data()?;
        fs::rename(&next, &self.path)?;
        self.file = file;
        (self.len, self.records) = (bytes.len() as u64, texts.len());
        sync_folder(&self.path)
    }

    /// Ends the file where it is whole.
    fn cut(&mut self) -> io::Result<()> {
        if self.file.metadata()?.len() != self.len {
            self.file.set_len(self.len)?;
            self.file.sync_data()?;
        }
        self.file.seek(SeekFrom::Start(self.len)).map(drop)
    }
}

/// Makes the names in a file's folder last.
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().map_or(OsStr::new(""), Path::as_os_str);
    let folder = if folder.is_empty() {
        OsStr::new(".")
    } else {
        folder
    };
    File::open(folder)?.sync_all()
}

fn push_record(out: &mut Vec<u8>, text: &str) {
    let len = u32::try_from(text.len()).expect("texts are short");
    out.extend(len.to_le_bytes());
    out.extend(xxh3_64(text.as_bytes()).to_le_bytes());
    out.extend(text.as_bytes());
}

/// The records at the beginning that are whole, and where they end.
fn read(bytes: &[u8]) -> (Vec<String>, usize) {
    let mut texts = Vec::new();
    let mut rest = bytes;
    while let Some((text, after)) = read_one(rest) {
        texts.push(text);
        rest = after;
    }
    (texts, bytes.len() - rest.len())
}

fn read_one(bytes: &[u8]) -> Option<(String, &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<HEAD>()?;
    let (len, hash) = head.split_first_chunk::<4>()?;
    let len = usize::try_from(u32::from_le_bytes(*len)).ok()?;
    let (text, rest) = rest.split_at_checked(len)?;
    let hash = u64::from_le_bytes(hash.try_into().ok()?);
    // No text is empty, as a file's end that was never written is.
    let whole = len > 0 && xxh3_64(text) == hash;
    let text = whole.then(|| String::from_utf8(text.to_vec()).ok())??;
    Some((text, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXTS: [&str; 3] = ["d:user:1", "a:user:", "t:user:red"];

    fn open(path: &Path) -> (Journal, Vec<String>) {
        Journal::open(path).unwrap()
    }

    async fn write(journal: &Journal, texts: &[&str]) {
        let numbers: Vec<_> = texts.iter().map(|text| journal.push(text)).collect();
        for number in numbers {
            journal.sync(number).await.unwrap();
        }
    }

    #[tokio::test]
    async fn torn_tail_is_cut_off_and_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        write(&open(&path).0, &TEXTS).await;
        let whole = fs::read(&path).unwrap();
        let ends: Vec<_> = (0..=TEXTS.len())
            .map(|n| {
                TEXTS[..n]
                    .iter()
                    .map(|text| HEAD + text.len())
                    .sum::<usize>()
            })
            .collect();
        for len in 0..=whole.len() {
            fs::write(&path, &whole[..len]).unwrap();
            let left = ends.iter().filter(|end| **end <= len).count() - 1;
            let (journal, texts) = open(&path);
            assert_eq!(texts, TEXTS[..left], "{len} bytes");
            write(&journal, &["s:user:9"]).await;
            drop(journal);
            let (_, texts) = open(&path);
            assert_eq!(texts.last().unwrap(), "s:user:9");
            assert_eq!(texts.len(), left + 1, "{len} bytes");
        }
        let mut damaged = whole;
        damaged[HEAD] ^= 1;
        fs::write(&path, damaged).unwrap();
        assert!(open(&path).1.is_empty());
    }

    #[tokio::test]
    async fn two_never_have_the_same_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let first = open(&path);
        let second = Journal::open(&path);
        assert!(
            matches!(second, Err(JournalError::InUse { .. })),
            "{second:?}"
        );
        drop(first);
        open(&path);
    }

    #[tokio::test]
    async fn records_that_nobody_needs_are_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let (journal, _) = open(&path);
        for _ in 0..SLACK {
            journal.push(TEXTS[0]);
        }
        write(&journal, &TEXTS).await;
        let tidy = async |needed: &'static [&'static str]| {
            let needed = move || needed.iter().map(|text| (*text).to_owned()).collect();
            journal.tidy(needed).await.unwrap();
            fs::read(&path).unwrap().len()
        };
        let many = fs::read(&path).unwrap().len();
        assert_eq!(tidy(&TEXTS).await, many, "not worth while");
        let few = tidy(&TEXTS[..1]).await;
        assert_eq!(few, HEAD + TEXTS[0].len());
        write(&journal, &TEXTS[1..]).await;
        assert_eq!(read(&fs::read(&path).unwrap()).0, TEXTS);
        assert_eq!(tidy(&[]).await, 0);
        write(&journal, &TEXTS[1..]).await;
        drop(journal);
        assert_eq!(open(&path).1, TEXTS[1..]);
    }
}
