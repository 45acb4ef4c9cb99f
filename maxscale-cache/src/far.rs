//! L2 as the hub uses it: nothing fails because of it.
//!
//! A read that cannot be answered is a miss; what has an unconfirmed
//! invalidation is not asked for at all.

mod beside;
mod outbox;
mod sending;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use maxscale_core::Chain;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use crate::codec::Packing;
use crate::envelope::Envelope;
use crate::hub::Hub;
use crate::message;
use crate::pending::Pending;
use crate::remote::{Advert, DynRemote, FENCE_TTL, Fence, Found, Notice, RemoteError};
use crate::schemas::{Schema, Schemas};
use crate::stats::Counters;
use crate::tags::Held;
use crate::ticks::{Ticks, micros};

pub(crate) use beside::Beside;
use outbox::Outbox;

/// How long the fence of a tag is kept beyond the longest life of a value.
const TAG_MARGIN: Duration = Duration::from_secs(3_600);

/// The longest time that the fence of a tag is believed without asking again.
/// It is far below the time for which the store keeps it.
const TAG_BELIEVED: Duration = Duration::from_secs(600);

pub(crate) struct Far {
    pub(crate) remote: Box<dyn DynRemote>,
    beside: Beside,
    pub(crate) pending: Pending,
    pub(crate) schemas: Schemas,
    pub(crate) prefix: String,
    pub(crate) channel: String,
    board: String,
    timeout: Duration,
    /// Whether nobody else can use the store.
    pub(crate) alone: bool,
    /// Tells this process from others; never 0.
    pub(crate) origin: u64,
    /// The last number given to a message.
    seq: AtomicU64,
    /// What changed and is to be told.
    outbox: Outbox,
    ticks: Ticks,
    era: AtomicU64,
    /// Whether the board was lost since somebody looked, and so was what L2 had.
    pub(crate) emptied: AtomicBool,
    /// What the store's clock is ahead of the ticks, at the least.
    ahead: AtomicI64,
    /// And at the most.
    ahead_at_most: AtomicI64,
    /// One asks, and the others wait for what it learns.
    asking: tokio::sync::Mutex<()>,
    /// There is something new to tell the others.
    pub(crate) registered: Notify,
    /// How long an old value may live in L2, in microseconds.
    longest_ttl: AtomicU64,
    counters: Arc<Counters>,
}

/// Where and as whom a hub uses its L2.
pub(crate) struct Place {
    pub(crate) prefix: String,
    pub(crate) timeout: Duration,
    pub(crate) alone: bool,
    pub(crate) origin: u64,
    pub(crate) ticks: Ticks,
}

/// What L2 says about a key.
pub(crate) enum FarRead {
    /// What is stored, and the fence of the key now.
    Hit(Box<Envelope>, Fence),
    /// Nothing that is of use.
    Miss,
    /// L2 is not to be used for the key.
    Off,
}

/// A claim on a key.
pub(crate) struct Turn {
    pub(crate) read: FarRead,
    pub(crate) fence: Fence,
    /// How long somebody else has yet to load it.
    pub(crate) wait: Duration,
    /// The store's clock.
    pub(crate) now: u64,
}

/// What became of a fill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filled {
    /// Stored; at that moment no drop of the key had come before.
    Stored,
    /// Refused: the key was dropped since the fence was taken.
    Refused,
    /// Not tried, or unknown.
    Unknown,
}

// === impl Far ===

impl Far {
    pub(crate) fn new(
        remote: Box<dyn DynRemote>,
        beside: Beside,
        pending: Pending,
        place: Place,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            remote,
            beside,
            pending,
            schemas: Schemas::default(),
            channel: format!("{}:invalidations", place.prefix),
            board: format!("{}:!board", place.prefix),
            prefix: place.prefix,
            timeout: place.timeout,
            alone: place.alone,
            origin: place.origin,
            seq: AtomicU64::new(0),
            outbox: Outbox::default(),
            ticks: place.ticks,
            era: AtomicU64::new(u64::from(place.alone)),
            emptied: AtomicBool::new(false),
            ahead: AtomicI64::new(0),
            ahead_at_most: AtomicI64::new(0),
            asking: tokio::sync::Mutex::default(),
            registered: Notify::new(),
            longest_ttl: AtomicU64::new(0),
            counters,
        }
    }

    /// Notes a form whose values may live for `lives`, what a load takes included.
    pub(crate) fn register(&self, kind: &str, version: u32, lives: Duration) -> Arc<Schema> {
        self.longest_ttl.fetch_max(micros(lives), Ordering::SeqCst);
        let schema = self.schemas.register(kind, version, lives);
        if self.alone {
            schema.use_alone();
        }
        self.registered.notify_one();
        schema
    }

    /// A tick by the store's clock, a little late.
    pub(crate) fn at(&self, tick: u64) -> u64 {
        tick.saturating_add_signed(self.ahead.load(Ordering::SeqCst))
    }

    /// As [`at`](Self::at), a little early instead.
    pub(crate) fn at_the_latest(&self, tick: u64) -> u64 {
        tick.saturating_add_signed(self.ahead_at_most.load(Ordering::SeqCst))
    }

    pub(crate) fn era(&self) -> u64 {
        self.era.load(Ordering::SeqCst)
    }

    pub(crate) async fn read(&self, key: &str, schema: &Schema) -> FarRead {
        if !self.is_on(key, schema).await {
            return FarRead::Off;
        }
        match self.answer("read", self.remote.read(key)).await {
            None => FarRead::Off,
            Some(None) => FarRead::Miss,
            Some(Some(found)) => self.open(key, &found),
        }
    }

    /// As [`read`](Self::read), of several keys.
    pub(crate) async fn read_many(&self, keys: &[Arc<str>], schema: &Schema) -> Vec<FarRead> {
        let off = || keys.iter().map(|_| FarRead::Off).collect();
        if !self.is_usable(schema).await {
            return off();
        }
        let Ok(answers) = timeout(self.timeout, self.remote.read_many(keys)).await else {
            self.counters.remote_errors.add(1);
            return off();
        };
        let read = keys.iter().zip(answers);
        read.map(|(key, answer)| {
            if self.pending.bars(base(key)) {
                return FarRead::Off;
            }
            match answer {
                Ok(None) => FarRead::Miss,
                Ok(Some(found)) => self.open(key, &found),
                Err(error) => {
                    self.failed("read", &error);
                    FarRead::Off
                }
            }
        })
        .collect()
    }

    /// Asks for the right to load `key`. `None` if L2 is not to be used for it.
    pub(crate) async fn claim(&self, key: &str, schema: &Schema, hold: Duration) -> Option<Turn> {
        if !self.is_on(key, schema).await {
            return None;
        }
        let claim = self.remote.claim(key, self.origin, hold, FENCE_TTL);
        let claimed = self.answer("claim", claim).await?;
        Some(Turn {
            read: self.open(key, &claimed.found),
            fence: claimed.found.fence,
            wait: claimed.wait,
            now: claimed.now,
        })
    }

    /// Lets others load `key`.
    pub(crate) async fn release(&self, key: &str) {
        let release = self.remote.release(key, self.origin);
        self.answer("release", release).await;
    }

    pub(crate) async fn fill(
        &self,
        key: &str,
        version: u64,
        envelope: &Envelope,
        packing: Packing,
        ttl: Duration,
    ) -> Filled {
        if ttl < Duration::from_millis(1) {
            return Filled::Unknown;
        }
        let body = self.put_away(envelope.body(packing), ttl).await;
        if self.pending.bars(base(key)) {
            return Filled::Unknown;
        }
        let sealed = envelope.seal(key, &body);
        let fill = self.remote.fill(key, envelope.fence, version, sealed, ttl);
        match self.answer("fill", fill).await {
            Some(true) => Filled::Stored,
            Some(false) => Filled::Refused,
            None => Filled::Unknown,
        }
    }

    /// The fence of a key at this moment, if L2 tells.
    pub(crate) async fn fence_now(&self, key: &str) -> Option<Fence> {
        let found = self.answer("fence", self.remote.read(key)).await?;
        found.map(|found| found.fence)
    }

    /// The fence of a tag since it was held; `None` if L2 does not tell.
    pub(crate) async fn fence_of(&self, held: &Held, epoch: u64) -> Option<Fence> {
        let key = &held.tag.key;
        let asked = self.ticks.now();
        if self.pending.bars(key) {
            return None;
        }
        if let Some(fence) = held.fence(epoch, asked) {
            return Some(fence);
        }
        let claim = self.remote.claim(key, 0, Duration::ZERO, self.tag_ttl());
        let fence = self.answer("tag", claim).await?.found.fence;
        held.learn(fence, epoch, asked.saturating_add(micros(TAG_BELIEVED)));
        Some(fence)
    }

    /// Shows this process to the others and learns of them. `None` if L2 did
    /// not answer.
    pub(crate) async fn beat(&self, step: &'static str) -> Option<()> {
        let schemas = self.schemas.adverts();
        let origin = format!("{:016x}", self.origin);
        let last = self.seq.load(Ordering::SeqCst);
        let message = message::beat(self.origin, last, self.ticks.now());
        let notice = Notice::new(&self.channel, &message);
        let advert = Advert::new(&self.board, &origin, self.schemas.seen(), &schemas, notice);
        let (asked, asked_at) = (Instant::now(), self.ticks.now());
        let beat = self.answer(step, self.remote.beat(advert)).await?;
        let now = self.ticks.now();
        let ahead = |tick| i64::try_from(i128::from(beat.now) - i128::from(tick)).unwrap_or(0);
        self.ahead.store(ahead(now), Ordering::SeqCst);
        self.ahead_at_most.store(ahead(asked_at), Ordering::SeqCst);
        self.schemas.take_in(&beat, asked, now);
        let before = self.era.swap(beat.era, Ordering::SeqCst);
        if before != beat.era && before != 0 {
            self.emptied.store(true, Ordering::SeqCst);
        }
        Some(())
    }

    /// Whether L2 may be used for a key.
    async fn is_on(&self, key: &str, schema: &Schema) -> bool {
        !self.pending.bars(base(key)) && self.is_usable(schema).await
    }

    async fn is_usable(&self, schema: &Schema) -> bool {
        if let Some(usable) = schema.is_usable(self.ticks.now()) {
            return usable;
        }
        // Who waits for another's question waits no longer than for its own.
        let Ok(_only_one) = timeout(self.timeout, self.asking.lock()).await else {
            return false;
        };
        if schema.is_usable(self.ticks.now()).is_none() {
            self.beat("board").await;
        }
        schema.is_usable(self.ticks.now()) == Some(true)
    }

    fn open(&self, key: &str, found: &Found) -> FarRead {
        let fence = found.fence;
        let Some(value) = &found.value else {
            return FarRead::Miss;
        };
        match Envelope::open(key, value, Hub::MAX_VALUE) {
            // A fence of another lineage says nothing of this value.
            Ok(it) if it.era == self.era() && it.fence.lineage() == fence.lineage() => {
                FarRead::Hit(Box::new(it), fence)
            }
            Ok(_) => FarRead::Miss,
            Err(unread) => {
                self.counters.unread(unread);
                FarRead::Miss
            }
        }
    }

    async fn answer<T>(
        &self,
        step: &'static str,
        call: impl Future<Output = Result<T, RemoteError>>,
    ) -> Option<T> {
        let answer = timeout(self.timeout, call).await;
        match answer.unwrap_or(Err(RemoteError::TimedOut)) {
            Ok(answer) => Some(answer),
            Err(error) => {
                self.failed(step, &error);
                None
            }
        }
    }

    fn failed(&self, step: &'static str, error: &RemoteError) {
        // Nobody waits for a heartbeat.
        if step != "heartbeat" {
            self.counters.remote_errors.add(1);
        }
        tracing::debug!(step, error = %Chain(error), "L2 did not answer");
    }
}

/// A value's key without the version: what marks are named by.
fn base(key: &str) -> &str {
    key.rsplit_once(':').map_or(key, |(base, _)| base)
}
