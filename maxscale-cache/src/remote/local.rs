use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use moka::sync::Cache;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::expiry::{Expires, OwnTtl};

use super::{FENCE_TTL, Fence, Heard, Notice, Remote, RemoteError};

const STRIPES: usize = 64;
const LISTENER_BACKLOG: usize = 4_096;
const ENTRY_OVERHEAD: usize = 512;

/// An L2 inside this process, for a service without Redis.
///
/// It keeps what [`Remote`] asks for, within a budget of bytes, and is empty
/// after a restart. Hubs that share one (clones are one) hear each other.
#[derive(Clone)]
pub struct LocalRemote(Arc<Inner>);

struct Inner {
    records: Cache<Arc<str>, Record>,
    /// Held over each step, which reads and then writes.
    stripes: [Mutex<()>; STRIPES],
    hasher: RandomState,
    next_fence: AtomicU64,
    notices: broadcast::Sender<(Arc<str>, Bytes)>,
}

#[derive(Clone)]
struct Record {
    fence: Fence,
    value: Option<Bytes>,
    ttl: Duration,
}

// === impl LocalRemote ===

impl LocalRemote {
    /// The bytes kept when no other number is given.
    pub const DEFAULT_BUDGET: u64 = 64 << 20;

    /// An empty store that keeps about `budget` bytes.
    pub fn new(budget: u64) -> Self {
        let records = Cache::builder()
            .max_capacity(budget)
            .weigher(|key: &Arc<str>, record: &Record| {
                let value = record.value.as_ref().map_or(0, Bytes::len);
                u32::try_from(ENTRY_OVERHEAD + key.len() + value).unwrap_or(u32::MAX)
            })
            .expire_after(OwnTtl)
            .build();
        Self(Arc::new(Inner {
            records,
            stripes: [const { Mutex::new(()) }; STRIPES],
            hasher: RandomState::new(),
            next_fence: AtomicU64::new(1),
            notices: broadcast::Sender::new(LISTENER_BACKLOG),
        }))
    }

    fn lock(&self, key: &str) -> MutexGuard<'_, ()> {
        let hash = self.0.hasher.hash_one(key);
        let stripe = usize::try_from(hash % STRIPES as u64).expect("below 64");
        self.0.stripes[stripe]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn put_fence(&self, key: &str) -> Fence {
        let fence = Fence::new(self.0.next_fence.fetch_add(1, Ordering::Relaxed));
        let record = Record {
            fence,
            value: None,
            ttl: FENCE_TTL,
        };
        self.0.records.insert(key.into(), record);
        fence
    }
}

impl Default for LocalRemote {
    fn default() -> Self {
        Self::new(Self::DEFAULT_BUDGET)
    }
}

impl std::fmt::Debug for LocalRemote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalRemote")
            .field("entries", &self.0.records.entry_count())
            .finish_non_exhaustive()
    }
}

impl Remote for LocalRemote {
    async fn read(&self, key: &str) -> Result<(Option<Bytes>, Fence), RemoteError> {
        let _step = self.lock(key);
        Ok(match self.0.records.get(key) {
            Some(record) => (record.value, record.fence),
            None => (None, self.put_fence(key)),
        })
    }

    async fn fill(
        &self,
        key: &str,
        fence: Fence,
        value: Bytes,
        ttl: Duration,
    ) -> Result<bool, RemoteError> {
        let _step = self.lock(key);
        let same = self.0.records.get(key).is_some_and(|r| r.fence == fence);
        if same {
            let record = Record {
                fence,
                value: Some(value),
                ttl,
            };
            self.0.records.insert(key.into(), record);
        }
        Ok(same)
    }

    async fn bump(&self, key: &str, notice: Notice<'_>) -> Result<(), RemoteError> {
        let _step = self.lock(key);
        self.put_fence(key);
        let message = Bytes::copy_from_slice(notice.message.as_bytes());
        // An error says that nobody listens.
        let _ = self.0.notices.send((notice.channel.into(), message));
        Ok(())
    }

    fn listen(&self, channel: &str) -> BoxStream<'static, Heard> {
        let mine: Arc<str> = channel.into();
        let state = (self.0.notices.subscribe(), mine);
        stream::unfold(state, |(mut notices, mine)| async move {
            loop {
                let heard = match notices.recv().await {
                    Ok((channel, message)) if channel == mine => Heard::Message(message),
                    Ok(_) => continue,
                    Err(RecvError::Lagged(_)) => Heard::Missed,
                    Err(RecvError::Closed) => return None,
                };
                return Some((heard, (notices, mine)));
            }
        })
        .boxed()
    }
}

// === impl Record ===

impl Expires for Record {
    fn ttl(&self) -> Duration {
        self.ttl
    }
}
