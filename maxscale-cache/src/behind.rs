//! Write-behind: accepted now, written to the source later and in batches.
//!
//! ```text
//!  put ─ room? ─ journal (one fsync for many) ─ accepted: pinned, readable here
//!                                                  │ coalesced by id
//!          dead letters <─ refused again and again ─ sink, one call at a time
//!                                                  │ written
//!                                   others are told ─ unpinned
//! ```
//!
//! A [`Behind`] belongs to one [`Cache`] and one sink, a function of yours that
//! writes many values at once. It says when a value counts as accepted ([`Ack`]).
//!
//! # What is guaranteed
//!
//! - **Accepted at [`Ack::Journal`]** means that it is on disk: in a [`Folder`]
//!   of this machine, or in a `Stream` of Redis (feature `redis`), whose server
//!   is held to syncing its append-only file before it answers. A process that
//!   dies, by `kill -9` too, or a machine that loses power, loses none: the next
//!   [open](BehindBuilder::open) has it again. `Ack::Replicated` is that in a
//!   stream, and that replicas of its server have confirmed it as well. At
//!   [`Ack::Memory`] what is not written dies with the process.
//! - **Each value reaches the sink at least once**, or a newer one of its id
//!   does, or it becomes a dead letter. Every value has a version, and versions
//!   of an id rise, across a crash as well. A sink that writes where the stored
//!   version is lower is never harmed by being told again.
//! - **In order**: of one id no value is given to the sink after a newer one, and
//!   never two at once. Of a stream whose owner stood still and was taken over
//!   from, this is so but for a call that had begun: compare versions.
//! - **Readable here**: from acceptance on until the source has it, every read of
//!   the cache in this process gets the value, whatever the tiers have and
//!   whatever is invalidated meanwhile. It takes no part in eviction.
//! - **Nothing is dropped.** When the room is full, writers wait, and get
//!   [`BehindError::Full`] in the end. While the sink cannot write, values stay.
//!
//! # What is not
//!
//! - **Other processes** see the old value until the sink has written the new
//!   one; then they are told as by [`Cache::write_through`].
//! - **Order between processes**: versions come from the clock of the process
//!   that accepted, or of the stream's server. Two processes that accept values
//!   of one id at once need another order, of the source, or should not. A
//!   journal belongs to one process at a time: a folder by a lock, a stream by a
//!   lease.
//! - **At [`Ack::Memory`]** versions after a restart are higher only if the clock
//!   was not set back.
//! - **After a crash** the sink may be told again of values that it has, all in
//!   the last files of the journal. Until it has confirmed them they are what
//!   this process reads, though another process may have written since. A
//!   process that was taken over from reads its own for as long as it takes to
//!   be told, at most a quarter of the lease once it reaches Redis.
//! - **A process that dies** after the sink has written and before others were
//!   told leaves them the old value until the journal is opened again; at
//!   [`Ack::Memory`] for as long as it is fresh.
//! - **A disk that loses what it confirmed** cannot be made up for. Damage in
//!   what was last written looks like a write that was cut short: it is cut off,
//!   [told](Behind::replayed), and kept aside in a file that ends with `.torn`.

mod ack;
mod buffer;
mod builder;
mod error;
mod flush;
mod hold;
mod keep;
mod open;
mod sink;
mod stats;
mod store;
#[cfg(feature = "redis")]
mod stream;
mod unwritten;

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use maxscale_core::BoxError;
use maxscale_core::control::Backoff;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::cache::Cache;
use crate::error::JournalError;
use crate::hub::Hub;

pub use ack::{Ack, Folder, Journal, Replayed};
pub use builder::BehindBuilder;
pub use error::{BehindError, Unflushed};
pub use sink::{DeadLetter, Op, SinkError};
#[cfg(feature = "redis")]
pub use stream::Stream;

use keep::Incoming;
use open::size_of;
use unwritten::{Held, Unwritten};

/// Accepts values of a cache and writes them later. Cheap to clone; clones are
/// one.
///
/// A cache has one at most. When the last clone is dropped, writing ends where
/// it is; [`shutdown`](Self::shutdown) ends it gracefully.
///
/// # Examples: counters that are written at most ten times a second
///
/// ```no_run
/// use std::time::Duration;
/// use maxscale_cache::{CacheSpec, Hub};
/// use maxscale_cache::behind::{Ack, Behind, DeadLetter, Journal, Op, SinkError};
///
/// # async fn upsert(ops: &[Op<u64>]) -> Result<(), std::io::Error> { Ok(()) }
/// # async fn report(letter: &DeadLetter<u64>) {}
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let views = Hub::builder().build().cache::<u64>(CacheSpec::new("views", 1));
/// // … SET views = $2, version = $3 WHERE id = $1 AND version < $3
/// let write = |ops: Vec<Op<u64>>| async move {
///     upsert(&ops).await.map_err(|error| SinkError::Unavailable(error.into()))
/// };
/// let bury = |letter: DeadLetter<u64>| async move {
///     report(&letter).await;
///     Ok(())
/// };
/// let ack = Ack::Journal(Journal::folder("/var/lib/app/views"));
/// let behind = Behind::builder(&views, ack, write, bury)
///     .max_delay(Duration::from_millis(100))
///     .open()
///     .await?;
/// behind.put("page-1", 42).await?; // on disk, and readable by `views` here
/// behind.shutdown(Duration::from_secs(5)).await?;
/// # Ok(())
/// # }
/// ```
pub struct Behind<V>
where
    V: Serialize + DeserializeOwned + Send + Sync + 'static,
{
    inner: Arc<Inner<V>>,
}

struct Inner<V>
where
    V: Serialize + DeserializeOwned + Send + Sync + 'static,
{
    unwritten: Arc<Unwritten<V>>,
    way: Way<V>,
    max_wait: Duration,
    replayed: Replayed,
    flusher: Mutex<Option<JoinHandle<()>>>,
    keeper: Mutex<Option<JoinHandle<()>>>,
}

/// How a value is accepted.
enum Way<V> {
    Memory,
    /// By the task that has the journal, until it is shut down.
    Journal(Mutex<Option<mpsc::UnboundedSender<Incoming<V>>>>),
}

// === impl Behind ===

impl<V> Behind<V>
where
    V: Serialize + DeserializeOwned + Send + Sync + 'static,
{
    /// The most values that the sink gets at once when no other number is given.
    pub const DEFAULT_BATCH: usize = 256;
    /// How long a value waits until it is written when nothing else is given.
    pub const DEFAULT_MAX_DELAY: Duration = Duration::from_millis(50);
    /// The bytes of values that wait at most when no other number is given.
    pub const DEFAULT_BUDGET: u32 = 64 << 20;
    /// How long a writer waits for room when nothing else is given.
    pub const DEFAULT_MAX_WAIT: Duration = Duration::from_secs(1);
    /// After how many refusals a value is a dead letter when no other number is given.
    pub const DEFAULT_REFUSALS: u32 = 8;
    /// The waits before the sink is tried again when nothing else is given.
    pub const DEFAULT_BACKOFF: Backoff =
        Backoff::new(Duration::from_millis(100), Duration::from_secs(30));
    /// The longest id.
    pub const MAX_ID: usize = 64 << 10;

    /// Starts a write-behind of `cache`, which gives batches of values to
    /// `write`, and to `bury` what it refused too often.
    ///
    /// `write` gets each id once per call, in the order in which they became
    /// due, and is not called while it runs. It bounds its own time. It is
    /// dropped, wherever it waits, when a [`shutdown`](Self::shutdown) runs out
    /// of time or the last handle is gone.
    ///
    /// `bury` has a value off the hands of this once it returns `Ok`; until
    /// then the value stays and is tried again. Reads get what the source has
    /// from then on. It bounds its own time too: nothing is written meanwhile.
    /// After a crash it may get a value again.
    pub fn builder<W, WF, B, BF>(cache: &Cache<V>, ack: Ack, write: W, bury: B) -> BehindBuilder<V>
    where
        W: Fn(Vec<Op<V>>) -> WF + Send + Sync + 'static,
        WF: Future<Output = Result<(), SinkError>> + Send + 'static,
        B: Fn(DeadLetter<V>) -> BF + Send + Sync + 'static,
        BF: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        BehindBuilder::new(cache, ack, write, bury)
    }

    /// Accepts `value` for `id`, and gives its version. Reads of the cache in
    /// this process get it from now on.
    ///
    /// If the caller gives up waiting, it may be accepted all the same.
    ///
    /// # Errors
    ///
    /// See [`BehindError`]. All but [`BehindError::Journal`] and
    /// [`BehindError::NotReplicated`] say that it was not accepted.
    pub async fn put(&self, id: &str, value: V) -> Result<u64, BehindError> {
        let encoded = serde_json::to_vec(&value);
        let encoded = encoded.map_err(|error| BehindError::Encode(Arc::new(error.into())))?;
        self.accept(id, Some(Arc::new(value)), Some(encoded.into()))
            .await
    }

    /// Accepts that `id` has no value any more; as [`put`](Self::put) in all else.
    ///
    /// # Errors
    ///
    /// See [`BehindError`].
    pub async fn delete(&self, id: &str) -> Result<u64, BehindError> {
        self.accept(id, None, None).await
    }

    /// Accepts no more, and writes all that was accepted, at once but for what
    /// was refused or while the sink cannot write. After `limit` it ends all
    /// the same. Made for core's `on_hand_back` hook of a server's end.
    ///
    /// # Errors
    ///
    /// [`Unflushed`] if the time was too short. The journal has what is left.
    /// Asked a second time there is nothing left to tell of.
    pub async fn shutdown(&self, limit: Duration) -> Result<(), Unflushed> {
        let inner = &self.inner;
        // What is left tells whether that was long enough.
        let _ = timeout(limit, inner.unwritten.drain()).await;
        let flusher = locked(&inner.flusher).take();
        if let Some(flusher) = flusher {
            flusher.abort();
            let _ = flusher.await;
        }
        inner.way.close();
        let keeper = locked(&inner.keeper).take();
        if let Some(keeper) = keeper {
            // Ends by itself, since nobody can send any more.
            let _ = keeper.await;
        }
        match inner.unwritten.abandon() {
            0 => Ok(()),
            left => Err(Unflushed { left }),
        }
    }

    /// How many values are accepted and not written.
    pub fn pending(&self) -> usize {
        self.inner.unwritten.len()
    }

    /// What was found in the journal when it was opened.
    pub fn replayed(&self) -> Replayed {
        self.inner.replayed
    }

    async fn accept(
        &self,
        id: &str,
        value: Option<Arc<V>>,
        encoded: Option<Bytes>,
    ) -> Result<u64, BehindError> {
        let inner = &*self.inner;
        let length = encoded.as_ref().map_or(0, Bytes::len);
        let wanted = size_of(id, length);
        let budget = inner.unwritten.budget;
        for (size, most) in [
            (id.len(), Self::MAX_ID),
            (length, Hub::MAX_VALUE),
            (wanted, usize::try_from(budget).unwrap_or(usize::MAX)),
        ] {
            if size > most {
                return Err(BehindError::TooLarge { size, most });
            }
        }
        let room = inner.room(wanted).await?;
        let held = Held {
            value,
            room: Some(room),
        };
        let id: Arc<str> = id.into();
        match &inner.way {
            Way::Memory => {
                let version = inner.unwritten.accept_next(&id, held);
                version.ok_or_else(|| inner.unwritten.ended())
            }
            Way::Journal(sender) => {
                let (told, answer) = oneshot::channel();
                let incoming = Incoming {
                    id,
                    encoded,
                    held,
                    told,
                };
                let ended = || inner.unwritten.ended();
                let sender = locked(sender).clone().ok_or_else(ended)?;
                sender.send(incoming).map_err(|_| ended())?;
                answer.await.unwrap_or_else(|_| match ended() {
                    BehindError::Lost => Err(BehindError::Lost),
                    _ => Err(BehindError::Journal(Arc::new(JournalError::Failed))),
                })
            }
        }
    }
}

impl<V> Clone for Behind<V>
where
    V: Serialize + DeserializeOwned + Send + Sync + 'static,
{
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
        }
    }
}

impl<V> fmt::Debug for Behind<V>
where
    V: Serialize + DeserializeOwned + Send + Sync + 'static,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Behind")
            .field("cache", &self.inner.unwritten.cache)
            .field("pending", &self.pending())
            .finish_non_exhaustive()
    }
}

// === impl Inner ===

impl<V> Inner<V>
where
    V: Serialize + DeserializeOwned + Send + Sync + 'static,
{
    async fn room(&self, bytes: usize) -> Result<OwnedSemaphorePermit, BehindError> {
        if self.unwritten.is_closed() {
            return Err(self.unwritten.ended());
        }
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let room = self.unwritten.room.clone().acquire_many_owned(bytes);
        let Ok(room) = timeout(self.max_wait, room).await else {
            return Err(BehindError::Full {
                waited: self.max_wait,
            });
        };
        match room {
            Ok(room) if !self.unwritten.is_closed() => Ok(room),
            _ => Err(self.unwritten.ended()),
        }
    }
}

impl<V> Drop for Inner<V>
where
    V: Serialize + DeserializeOwned + Send + Sync + 'static,
{
    fn drop(&mut self) {
        for task in [&self.flusher, &self.keeper] {
            if let Some(task) = locked(task).take() {
                task.abort();
            }
        }
        self.unwritten.abandon();
    }
}

// === impl Way ===

impl<V> Way<V> {
    /// Lets the journal's task end once it has done what it was sent.
    fn close(&self) {
        if let Self::Journal(sender) = self {
            locked(sender).take();
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
