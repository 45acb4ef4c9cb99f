use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use moka::sync::Cache;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;

use crate::expiry::{Expires, OwnTtl};

use super::{Advert, Beat, Bump, Bumped, Claimed, Fence, Found, Heard, Notice};
use super::{Remote, RemoteError};

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
    /// Tells its fences from those of any other store.
    lineage: u64,
    notices: broadcast::Sender<(Arc<str>, Bytes)>,
    /// Until when values of each schema may live, by board.
    schemas: Mutex<HashMap<String, HashMap<Arc<str>, Instant>>>,
    began: Instant,
}

#[derive(Clone)]
struct Record {
    fence: Fence,
    version: u64,
    value: Option<Bytes>,
    /// Who claimed it, and until when.
    claim: Option<(u64, Instant)>,
    ends: Instant,
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
            lineage: RandomState::new().hash_one(0_u8),
            notices: broadcast::Sender::new(LISTENER_BACKLOG),
            schemas: Mutex::default(),
            began: Instant::now(),
        }))
    }

    fn lock(&self, key: &str) -> MutexGuard<'_, ()> {
        let hash = self.0.hasher.hash_one(key);
        let stripe = usize::try_from(hash % STRIPES as u64).expect("below 64");
        self.0.stripes[stripe]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, key: &str, record: &Record) {
        self.0.records.insert(key.into(), record.clone());
    }

    /// A record that there never was, without a value.
    fn empty(&self, ttl: Duration) -> Record {
        Record {
            fence: Fence::of(
                self.0.lineage,
                self.0.next_fence.fetch_add(1, Ordering::Relaxed),
            ),
            version: 0,
            value: None,
            claim: None,
            ends: ending(ttl),
        }
    }

    fn send(&self, notice: Notice<'_>) {
        let message = Bytes::copy_from_slice(notice.message.as_bytes());
        // An error says that nobody listens.
        let _ = self.0.notices.send((notice.channel.into(), message));
    }

    fn now(&self) -> u64 {
        // From one on: zero means "never" to who reads it.
        u64::try_from(self.0.began.elapsed().as_micros()).map_or(u64::MAX, |now| now + 1)
    }
}

/// The moment in `ttl`, or one so far away that nobody will see it.
fn ending(ttl: Duration) -> Instant {
    const MOST: Duration = Duration::from_secs(10 * 365 * 86_400);
    Instant::now() + ttl.min(MOST)
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
    async fn read(&self, key: &str) -> Result<Option<Found>, RemoteError> {
        let record = self.0.records.get(key);
        Ok(record.map(|record| Found::new(record.value, record.fence)))
    }

    async fn claim(
        &self,
        key: &str,
        owner: u64,
        hold: Duration,
        ttl: Duration,
    ) -> Result<Claimed, RemoteError> {
        let _step = self.lock(key);
        let known = self.0.records.get(key);
        let mut changed = known.is_none();
        let mut record = known.unwrap_or_else(|| self.empty(ttl));
        if record.value.is_none() && record.ends < ending(ttl) {
            record.ends = ending(ttl);
            changed = true;
        }
        let now = Instant::now();
        let mut wait = Duration::ZERO;
        if owner != 0 {
            match record.claim {
                Some((holder, till)) if holder != owner && till > now => wait = till - now,
                _ => {
                    record.claim = Some((owner, ending(hold)));
                    changed = true;
                }
            }
        }
        if changed {
            self.put(key, &record);
        }
        let found = Found::new(record.value, record.fence);
        Ok(Claimed::new(found, wait, self.now()))
    }

    async fn release(&self, key: &str, owner: u64) -> Result<(), RemoteError> {
        let _step = self.lock(key);
        if let Some(mut record) = self.0.records.get(key)
            && record.claim.is_some_and(|(holder, _)| holder == owner)
        {
            record.claim = None;
            self.put(key, &record);
        }
        Ok(())
    }

    async fn fill(
        &self,
        key: &str,
        fence: Fence,
        version: u64,
        value: Bytes,
        ttl: Duration,
    ) -> Result<bool, RemoteError> {
        let _step = self.lock(key);
        let is_same = |known: &Record| known.fence == fence;
        if !self.0.records.get(key).is_some_and(|it| is_same(&it)) {
            return Ok(false);
        }
        let record = Record {
            fence,
            version,
            value: Some(value),
            claim: None,
            ends: ending(ttl),
        };
        self.put(key, &record);
        Ok(true)
    }

    async fn bump(&self, key: &str, bump: Bump) -> Result<Bumped, RemoteError> {
        let _step = self.lock(key);
        let known = self.0.records.get(key).filter(|it| it.value.is_some());
        let before = known.as_ref().map_or(0, |known| known.version);
        let mut record = self.empty(bump.ttl);
        if bump.keeps_value
            && let Some(known) = known
        {
            record.version = known.version;
            record.value = known.value;
            record.ends = known.ends;
        }
        self.put(key, &record);
        Ok(Bumped::new(record.fence, before))
    }

    async fn tell(&self, notice: Notice<'_>) -> Result<(), RemoteError> {
        self.send(notice);
        Ok(())
    }

    async fn beat(&self, advert: Advert<'_>) -> Result<Beat, RemoteError> {
        let now = Instant::now();
        let mut boards = self
            .0
            .schemas
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let board = boards.entry(advert.board.to_owned()).or_default();
        board.retain(|_, till| *till > now);
        for (name, lives) in advert.schemas {
            let till = board.entry(name.clone()).or_insert(now);
            *till = ending(*lives).max(*till);
        }
        let schemas = board.keys();
        let schemas = schemas.map(|it| ((**it).to_owned(), Duration::ZERO));
        // Nobody relies on it beyond the call, so nobody has to be waited for.
        let beat = Beat::new(self.now(), 1, schemas.collect(), Duration::ZERO);
        drop(boards);
        self.send(advert.notice);
        Ok(beat)
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
        self.ends.saturating_duration_since(Instant::now())
    }
}
