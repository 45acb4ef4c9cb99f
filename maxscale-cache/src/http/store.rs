//! Where responses are: a typed cache of the hub, so that both tiers, the bound on
//! memory and what drops a value everywhere are the same as for other values.

use std::collections::HashSet;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use moka::sync::Cache as Marks;

use super::cdn::{Tag, Tags};
use super::stored::Stored;
use crate::{Cache, CacheError, CacheSpec, Hub, Invalidated};

/// Raised whenever [`Stored`] is encoded in another way.
const VERSION: u32 = 1;

/// How long requests for something that was not for everybody wait for no other one.
const UNSHARED_FOR: Duration = Duration::from_secs(10);

/// How long a failed attempt to replace what is stale is not made again.
const FAILED_FOR: Duration = Duration::from_secs(1);

/// More than these are forgotten, which costs a wait each.
const MARKS: u64 = 65_536;

/// The responses of one cache.
#[derive(Debug)]
pub(super) struct Store {
    cache: Cache<Stored>,
    /// Ids whose last response was not stored.
    unshared: Marks<String, ()>,
    /// Ids whose stale response could not be replaced.
    failed: Marks<String, ()>,
    /// Ids being replaced in the background.
    replaced: Arc<Mutex<HashSet<String>>>,
}

/// The inner service gave nothing that can be stored or shared.
#[derive(Clone, Copy, Debug)]
pub(super) enum Nothing {
    /// It failed: what is stale may be better.
    Failed,
    /// What it gave is for one request alone.
    Unshared,
}

pub(super) type Got = Result<Option<Arc<Stored>>, CacheError<Nothing>>;

/// The right to replace one response in the background.
#[derive(Debug)]
pub(super) struct Replacing {
    replaced: Arc<Mutex<HashSet<String>>>,
    id: String,
}

// === impl Store ===

impl Store {
    pub(super) fn new(hub: &Hub, kind: &'static str, near: Duration, far: Duration) -> Self {
        let marks = |kept| {
            Marks::builder()
                .max_capacity(MARKS)
                .time_to_live(kept)
                .build()
        };
        let spec = CacheSpec::new(kind, VERSION).l1_ttl(near).l2_ttl(far);
        Self {
            cache: hub.cache(spec).tagged_by(names_of),
            unshared: marks(UNSHARED_FOR),
            failed: marks(FAILED_FOR),
            replaced: Arc::default(),
        }
    }

    /// What `look` says of what this process has in its memory.
    pub(super) fn peek_at<T>(&self, id: &str, look: impl Fn(&Stored) -> T) -> Option<T> {
        self.cache.peek_at(id, look)
    }

    pub(super) async fn get(&self, id: &str) -> Option<Arc<Stored>> {
        self.cache.get(id).await
    }

    /// What is stored, or what one `load` for all who ask meanwhile gives.
    pub(super) async fn get_or_load<F, Fut>(&self, id: &str, load: F) -> Got
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<Stored, Nothing>> + Send + 'static,
    {
        self.cache.get_or_load(id, || shared(load())).await
    }

    /// What one `load` for all who ask meanwhile gives in place of what is stored.
    pub(super) async fn replace<F, Fut>(&self, id: &str, load: F) -> Got
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<Stored, Nothing>> + Send + 'static,
    {
        self.cache.refresh(id, || shared(load())).await
    }

    pub(super) async fn invalidate(&self, id: &str) -> Invalidated {
        self.unshared.invalidate(id);
        self.cache.invalidate(id).await
    }

    pub(super) async fn invalidate_tag(&self, tag: &Tag) -> Invalidated {
        self.cache.invalidate_tag(tag.as_str()).await
    }

    /// Notes whether requests for `id` may wait for each other.
    pub(super) fn note_unshared(&self, id: &str) {
        self.unshared.insert(id.to_owned(), ());
    }

    pub(super) fn note_shared(&self, id: &str) {
        self.unshared.invalidate(id);
    }

    pub(super) fn is_unshared(&self, id: &str) -> bool {
        self.unshared.contains_key(id)
    }

    pub(super) fn note_failed(&self, id: &str) {
        self.failed.insert(id.to_owned(), ());
    }

    pub(super) fn failed_just_now(&self, id: &str) -> bool {
        self.failed.contains_key(id)
    }

    /// The right to replace `id` in the background, unless somebody has it.
    pub(super) fn begin_replacing(&self, id: &str) -> Option<Replacing> {
        if self.failed_just_now(id) {
            return None;
        }
        let mut replaced = self.replaced.lock().unwrap_or_else(PoisonError::into_inner);
        replaced.insert(id.to_owned()).then(|| Replacing {
            replaced: self.replaced.clone(),
            id: id.to_owned(),
        })
    }
}

/// The tags by which a response can be dropped.
fn names_of(stored: &Stored) -> Vec<String> {
    Tags::named_in(&stored.headers)
}

/// A failure is one for all who wait; that something is not shared is none: they
/// fetch their own.
async fn shared(
    load: impl Future<Output = Result<Stored, Nothing>>,
) -> Result<Option<Stored>, Nothing> {
    match load.await {
        Ok(stored) => Ok(Some(stored)),
        Err(Nothing::Unshared) => Ok(None),
        Err(Nothing::Failed) => Err(Nothing::Failed),
    }
}

// === impl Replacing ===

impl Drop for Replacing {
    fn drop(&mut self) {
        let mut replaced = self.replaced.lock().unwrap_or_else(PoisonError::into_inner);
        replaced.remove(&self.id);
    }
}
