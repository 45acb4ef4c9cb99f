//! The folder of the embedded databases: one process at a time.
//!
//! Limits and the cache of the embedded mode live in the process, so a second
//! one on the same folder would serve stale values and double every limit.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

/// The folder, held until dropped; also a kill lets go of it.
#[derive(Debug)]
pub struct DataFolder {
    _lock: File,
}

/// The folder cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FolderError {
    /// Another process holds it.
    #[error("{} is in use by process {pid}", path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
        /// Who holds it.
        pid: String,
    },
    /// It cannot be made or written to.
    #[error("{} is not writable", path.display())]
    Unwritable {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

// === impl DataFolder ===

impl DataFolder {
    /// Makes the folder if it is missing, and takes it.
    ///
    /// # Errors
    ///
    /// Returns [`FolderError`] when another process holds it or it is not writable.
    pub fn take(path: &Path) -> Result<Self, FolderError> {
        let unwritable = |source| FolderError::Unwritable {
            path: path.to_owned(),
            source,
        };
        fs::create_dir_all(path).map_err(unwritable)?;
        let mut options = File::options();
        options.create(true).truncate(false).read(true).write(true);
        let mut lock = options.open(path.join("lock")).map_err(unwritable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                lock.read_to_string(&mut pid).map_err(unwritable)?;
                return Err(FolderError::InUse {
                    path: path.to_owned(),
                    pid: pid.trim().to_owned(),
                });
            }
            Err(TryLockError::Error(source)) => return Err(unwritable(source)),
        }
        lock.set_len(0)
            .and_then(|()| lock.rewind())
            .and_then(|()| writeln!(lock, "{}", std::process::id()))
            .map_err(unwritable)?;
        Ok(Self { _lock: lock })
    }

    /// The URL of the database called `name` in the folder `path`.
    pub fn database_in(path: &Path, name: &str) -> String {
        format!(
            "sqlite://{}",
            path.join(name).with_extension("db").display()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_holder_is_told_who_the_first_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        let held = DataFolder::take(&path).unwrap();
        let refused = DataFolder::take(&path).unwrap_err();
        let pid = std::process::id().to_string();
        assert!(
            matches!(&refused, FolderError::InUse { pid: p, .. } if *p == pid),
            "{refused}"
        );
        drop(held);
        assert!(DataFolder::take(&path).is_ok());
    }
}
