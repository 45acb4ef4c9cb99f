//! Keeps uploaded files by URL: whole and on disk, or not at all.
//!
//! [`Objects`] opens a folder, `file:///var/lib/maxscale/objects` or relative,
//! `file://.maxscale/objects`; other schemes are refused until they are built.
//! [`put`](Objects::put) streams into a temporary file beside the target and
//! then syncs it, renames it and syncs the folder, so `Ok` means that it
//! survives a power cut. That work is `object_store`'s, which will also bring S3.
//!
//! An object's URL is `file://` and its key: relative to the folder, so that
//! rows stay true when the folder moves. It is no URL for a browser.
//!
//! Who owns an object is for the caller to know: objects are stored before
//! their rows, and a sweep asks [`list_older_than`](Objects::list_older_than)
//! which ones might have none. A put that was cut off leaves nothing, or a
//! temporary file for [`remove_stale_uploads`](Objects::remove_stale_uploads);
//! cut off in its very last step it may leave a whole object, an orphan as well.

mod error;
mod folder;
mod key;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _};
use maxscale_core::BoxError;
use maxscale_core::clock::Timestamp;
use object_store::local::LocalFileSystem;
use object_store::{
    Error as StoreError, MultipartUpload, ObjectMeta, ObjectStore as _, ObjectStoreExt as _,
};
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;

use key::Key;

pub use error::ObjectsError;

/// How much of a body is gathered before it is written.
const PART_BYTES: usize = 256 * 1024;

/// A store of files, by URL. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Objects {
    root: PathBuf,
    store: LocalFileSystem,
}

/// An object that [`Objects::put`] has stored.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stored {
    /// Where: for the row, and for [`Objects::open`] and [`Objects::delete`].
    pub url: String,
    /// Its size in bytes.
    pub size: u64,
}

/// An object that [`Objects::list_older_than`] has found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Listed {
    /// Where, as [`Stored::url`].
    pub url: String,
    /// When it was stored, by the file system's clock.
    pub modified: Timestamp,
}

// === impl Objects ===

impl Objects {
    /// Opens the store at `root`, the URL of a folder, which is made if missing.
    ///
    /// # Errors
    ///
    /// [`ObjectsError::Scheme`] for a URL that does not begin with `file://`,
    /// [`ObjectsError::Folder`] if the folder cannot be made or written to.
    pub async fn at(root: &str) -> Result<Self, ObjectsError> {
        let Some(path) = root.strip_prefix("file://") else {
            // Not the rest: it may hold a password.
            let scheme = root.split_once("://").map_or("", |(scheme, _)| scheme);
            return Err(ObjectsError::Scheme {
                scheme: scheme.into(),
            });
        };
        let path = PathBuf::from(path);
        blocking(move || {
            let folder = |source| ObjectsError::Folder {
                path: path.clone(),
                source,
            };
            folder::prepare(&path).map_err(folder)?;
            let root = path.canonicalize().map_err(folder)?;
            let store = LocalFileSystem::new_with_prefix(&root)
                .map_err(|error| folder(io::Error::other(error)))?
                .with_fsync(true);
            Ok(Self { root, store })
        })
        .await
    }

    /// The folder they are in.
    pub fn folder(&self) -> &Path {
        &self.root
    }

    /// Whether the folder is there, for a health check.
    ///
    /// # Errors
    ///
    /// [`ObjectsError::Folder`] if it is not, or is none.
    pub async fn ping(&self) -> Result<(), ObjectsError> {
        let looked = tokio::fs::metadata(&self.root).await;
        let folder = looked.and_then(|found| {
            let is = found.is_dir();
            is.then_some(())
                .ok_or_else(|| io::ErrorKind::NotADirectory.into())
        });
        folder.map_err(|source| ObjectsError::Folder {
            path: self.root.clone(),
            source,
        })
    }

    /// Stores `body` under `key`, in place of what was there; on disk after `Ok`.
    ///
    /// # Errors
    ///
    /// [`ObjectsError::Key`] for a key that is not lower-case letters, digits,
    /// `_`, `.`, `-` between single slashes; [`ObjectsError::TooLarge`] as soon
    /// as `body` exceeds `limit` bytes; [`ObjectsError::Body`] if `body` fails;
    /// [`ObjectsError::Store`] if the disk does. Then nothing is stored.
    pub async fn put<S, E>(&self, key: &str, body: S, limit: u64) -> Result<Stored, ObjectsError>
    where
        S: Stream<Item = Result<Bytes, E>>,
        E: Into<BoxError>,
    {
        let key = Key::parse(key)?;
        let mut upload = self.start(&key).await?;
        let written = match write(&mut *upload, body, limit).await {
            Ok(size) => upload.complete().await.map(|_| size).map_err(store("save")),
            Err(error) => {
                // Best effort: what stays behind is the sweep's.
                upload.abort().await.ok();
                Err(error)
            }
        };
        Ok(Stored {
            size: written?,
            url: key.url(),
        })
    }

    /// Opens the object at `url` for blocking reads.
    ///
    /// # Errors
    ///
    /// [`ObjectsError::Missing`] if there is none, [`ObjectsError::Url`] if the
    /// URL is none of this store's, [`ObjectsError::Store`] if the disk fails.
    pub async fn open(&self, url: &str) -> Result<File, ObjectsError> {
        let key = Key::from_url(url)?;
        let path = self
            .store
            .path_to_filesystem(&key.location())
            .map_err(store("find"))?;
        match tokio::fs::File::open(path).await {
            Ok(file) => Ok(file.into_std().await),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(ObjectsError::Missing { url: url.into() })
            }
            Err(error) => Err(store("open")(error)),
        }
    }

    /// Deletes the object at `url`, if it is there.
    ///
    /// A power cut may bring it back, as an orphan.
    ///
    /// # Errors
    ///
    /// [`ObjectsError::Url`] if the URL is none of this store's,
    /// [`ObjectsError::Store`] if the disk fails.
    pub async fn delete(&self, url: &str) -> Result<(), ObjectsError> {
        let key = Key::from_url(url)?;
        match self.store.delete(&key.location()).await {
            Ok(()) | Err(StoreError::NotFound { .. }) => Ok(()),
            Err(error) => Err(store("delete")(error)),
        }
    }

    /// The objects stored before `cutoff`, in no order. Foreign files are left out.
    ///
    /// Each item fails with [`ObjectsError::Store`] if the disk does.
    pub fn list_older_than(
        &self,
        cutoff: Timestamp,
    ) -> impl Stream<Item = Result<Listed, ObjectsError>> + Send + use<> {
        self.store.list(None).filter_map(move |found| async move {
            match found {
                Ok(meta) => Listed::new(&meta)
                    .filter(|object| object.modified < cutoff)
                    .map(Ok),
                Err(error) => Some(Err(store("list")(error))),
            }
        })
    }

    /// Removes temporary files last written before `cutoff`, and says how many.
    ///
    /// Leave running uploads time: one that has stood still since the cutoff
    /// loses its file and fails.
    ///
    /// # Errors
    ///
    /// [`ObjectsError::Folder`] if the folder cannot be read or changed.
    pub async fn remove_stale_uploads(&self, cutoff: Timestamp) -> Result<u64, ObjectsError> {
        let root = self.root.clone();
        blocking(move || {
            folder::remove_stale(&root, cutoff)
                .map_err(|source| ObjectsError::Folder { path: root, source })
        })
        .await
    }

    async fn start(&self, key: &Key) -> Result<Box<dyn MultipartUpload>, ObjectsError> {
        let (store_at, location) = (self.store.clone(), key.location());
        // `object_store` makes and syncs folders right in this call.
        let runtime = Handle::current();
        blocking(move || {
            runtime
                .block_on(store_at.put_multipart(&location))
                .map_err(store("create"))
        })
        .await
    }
}

/// Writes all of `body` and gives its size.
async fn write<S, E>(
    upload: &mut dyn MultipartUpload,
    body: S,
    limit: u64,
) -> Result<u64, ObjectsError>
where
    S: Stream<Item = Result<Bytes, E>>,
    E: Into<BoxError>,
{
    let mut body = pin!(body);
    let mut size = 0_u64;
    let mut part = BytesMut::new();
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(|error| ObjectsError::Body {
            source: error.into(),
        })?;
        size += chunk.len() as u64;
        if size > limit {
            return Err(ObjectsError::TooLarge { limit });
        }
        part.extend_from_slice(&chunk);
        if part.len() >= PART_BYTES {
            let part = part.split().freeze();
            upload.put_part(part.into()).await.map_err(store("write"))?;
        }
    }
    if !part.is_empty() {
        let part = part.freeze();
        upload.put_part(part.into()).await.map_err(store("write"))?;
    }
    Ok(size)
}

/// An error of the store below, with the step it failed in.
fn store<E: Into<BoxError>>(step: &'static str) -> impl FnOnce(E) -> ObjectsError {
    move |error| ObjectsError::Store {
        step,
        source: error.into(),
    }
}

/// Runs `work` where it may block.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ObjectsError> + Send + 'static,
) -> Result<T, ObjectsError> {
    spawn_blocking(work).await.map_err(store("run"))?
}

// === impl Listed ===

impl Listed {
    /// `None` for a file whose name is no key.
    fn new(meta: &ObjectMeta) -> Option<Self> {
        let key = Key::parse(meta.location.as_ref()).ok()?;
        Some(Self {
            url: key.url(),
            modified: Timestamp::from_micros(meta.last_modified.timestamp_micros()),
        })
    }
}

#[cfg(test)]
mod tests;
