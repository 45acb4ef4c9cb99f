//! The far tier: one store for many processes, and how they hear of drops.
//!
//! [`Remote`] is made of atomic steps so that no old value can get in. A
//! reader that misses [claims](Remote::claim) the key and gets its [`Fence`],
//! loads, and [fills](Remote::fill) under that fence; a [bump](Remote::bump) in
//! between moves the fence and the fill is refused. A store may forget whatever
//! it likes: a forgotten fence refuses fills too, and the one that takes its
//! place was never there before.
//!
//! A key without values is of use too: its fence is the generation of a tag.
//!
//! Stores answer or fail; when to leave them alone is decided by the hub.

mod local;
#[cfg(feature = "redis")]
mod redis;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{BoxFuture, join_all};
use futures_util::stream::BoxStream;
use maxscale_core::BoxError;

pub use local::LocalRemote;
#[cfg(feature = "redis")]
pub use redis::RedisRemote;

/// How long a fence without a value is kept. A load that takes longer is not stored.
pub const FENCE_TTL: Duration = Duration::from_secs(60);

/// The state of a key between two bumps. Never used twice for one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fence {
    number: u64,
    lineage: u64,
}

/// What a store has under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Found {
    /// The value, unless there is only a fence.
    pub value: Option<Bytes>,
    /// The fence to fill under.
    pub fence: Fence,
}

/// What a [claim](Remote::claim) got.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Claimed {
    /// What is there now.
    pub found: Found,
    /// How long another claim has yet to go; zero if the claim is the caller's.
    pub wait: Duration,
    /// The store's clock, in microseconds.
    pub now: u64,
}

/// How a [bump](Remote::bump) changes a key.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Bump<'a> {
    /// What is told to all who listen.
    pub notice: Notice<'a>,
    /// Whether the value stays, to be served while nobody has a newer one.
    pub keeps_value: bool,
    /// How long the fence is kept at least.
    pub ttl: Duration,
}

/// What a [bump](Remote::bump) did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Bumped {
    /// The fence from now on.
    pub fence: Fence,
    /// The version of the value that was there, 0 if there was none.
    pub before: u64,
}

/// What a [bump](Remote::bump) tells all who listen.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Notice<'a> {
    /// Whom it is for.
    pub channel: &'a str,
    /// What is told: short ASCII text.
    pub message: &'a str,
}

/// What a process says when it [beats](Remote::beat).
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Advert<'a> {
    /// The board on which processes that share values meet.
    pub board: &'a str,
    /// Names this process among them.
    pub origin: &'a str,
    /// The time of the last [`Beat`] that it took in, 0 for none.
    pub seen: u64,
    /// The schemas that it uses, and how long values of each may live.
    pub schemas: &'a [(Arc<str>, Duration)],
    /// What is told to all who listen.
    pub notice: Notice<'a>,
}

/// What a process learns when it [beats](Remote::beat).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Beat {
    /// The store's clock, in microseconds.
    pub now: u64,
    /// Since when, by that clock, the board was not lost. Values from before
    /// must not be used: nobody knows who missed which of them.
    pub era: u64,
    /// Every schema of which values may live, and how long its users have yet
    /// to stay away from the store, until all others know of it.
    pub schemas: Vec<(String, Duration)>,
    /// How long one may rely on it.
    pub valid_for: Duration,
}

/// What a listener hears.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Heard {
    /// A message of some [`Notice`], one's own included.
    Message(Bytes),
    /// Messages may have been lost: anything may have been dropped.
    Missed,
}

/// An L2 did not answer as asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemoteError {
    /// It was not done, or it is unknown whether it was.
    #[error("the far cache did not confirm")]
    Unconfirmed(#[source] BoxError),

    /// No answer in time: unknown, and it may still happen.
    #[error("the far cache did not answer in time")]
    TimedOut,
}

/// An L2. The suite in `conformance` says what each must keep.
pub trait Remote: Send + Sync + 'static {
    /// What is under `key`; `None` if there is neither value nor fence.
    fn read(&self, key: &str) -> impl Future<Output = Result<Option<Found>, RemoteError>> + Send;

    /// As [`read`](Self::read), of several keys at once and in their order.
    fn read_many(
        &self,
        keys: &[Arc<str>],
    ) -> impl Future<Output = Vec<Result<Option<Found>, RemoteError>>> + Send {
        join_all(keys.iter().map(|key| self.read(key)))
    }

    /// What is under `key`, and the right to be the only one who loads it for
    /// `hold`, unless another owner has it. An owner of 0 claims nothing.
    ///
    /// A key without a fence gets one that it never had before, and keeps it
    /// for at least `ttl`. A bump and a fill end the claim; that of a process
    /// that died ends with its time.
    fn claim(
        &self,
        key: &str,
        owner: u64,
        hold: Duration,
        ttl: Duration,
    ) -> impl Future<Output = Result<Claimed, RemoteError>> + Send;

    /// Ends the claim of `owner` on `key`, if it is still the owner's.
    fn release(
        &self,
        key: &str,
        owner: u64,
    ) -> impl Future<Output = Result<(), RemoteError>> + Send;

    /// Stores `value` for `ttl` if the key's fence is still `fence`, and says whether it did.
    ///
    /// The version is the caller's, 0 for none.
    fn fill(
        &self,
        key: &str,
        fence: Fence,
        version: u64,
        value: Bytes,
        ttl: Duration,
    ) -> impl Future<Output = Result<bool, RemoteError>> + Send;

    /// In one step moves the fence, drops the value unless told otherwise, and
    /// sends the notice.
    ///
    /// May be repeated: each time is as good as once.
    fn bump(
        &self,
        key: &str,
        bump: Bump<'_>,
    ) -> impl Future<Output = Result<Bumped, RemoteError>> + Send;

    /// Says that the process is there and which schemas it uses, sends the
    /// notice, and learns what the others use.
    fn beat(&self, advert: Advert<'_>) -> impl Future<Output = Result<Beat, RemoteError>> + Send;

    /// Everything told on `channel` from about now on.
    ///
    /// The stream mends itself and says [`Heard::Missed`] whenever it may have lost something.
    fn listen(&self, channel: &str) -> BoxStream<'static, Heard>;
}

type Answer<'a, T> = BoxFuture<'a, Result<T, RemoteError>>;

/// [`Remote`] as an object, for the one place that keeps it.
pub(crate) trait DynRemote: Send + Sync {
    fn read<'a>(&'a self, key: &'a str) -> Answer<'a, Option<Found>>;
    fn read_many<'a>(
        &'a self,
        keys: &'a [Arc<str>],
    ) -> BoxFuture<'a, Vec<Result<Option<Found>, RemoteError>>>;
    fn claim<'a>(
        &'a self,
        key: &'a str,
        owner: u64,
        hold: Duration,
        ttl: Duration,
    ) -> Answer<'a, Claimed>;
    fn release<'a>(&'a self, key: &'a str, owner: u64) -> Answer<'a, ()>;
    fn fill<'a>(
        &'a self,
        key: &'a str,
        fence: Fence,
        version: u64,
        value: Bytes,
        ttl: Duration,
    ) -> Answer<'a, bool>;
    fn bump<'a>(&'a self, key: &'a str, bump: Bump<'a>) -> Answer<'a, Bumped>;
    fn beat<'a>(&'a self, advert: Advert<'a>) -> Answer<'a, Beat>;
    fn listen(&self, channel: &str) -> BoxStream<'static, Heard>;
}

// === impl Fence ===

impl Fence {
    /// The fence that a store numbers `number`.
    pub const fn new(number: u64) -> Self {
        Self::of(0, number)
    }

    /// The fence that a store numbers `number`, while its history of writes is
    /// `lineage`. A store that may have lost bumps has another history, and
    /// none of the fences from before.
    pub const fn of(lineage: u64, number: u64) -> Self {
        Self { number, lineage }
    }

    /// The store's number. It rises from bump to bump.
    pub const fn get(self) -> u64 {
        self.number
    }

    /// Which history of the store's writes it belongs to.
    pub const fn lineage(self) -> u64 {
        self.lineage
    }
}

// === impl Found ===

impl Found {
    /// `value` under `fence`.
    pub const fn new(value: Option<Bytes>, fence: Fence) -> Self {
        Self { value, fence }
    }
}

// === impl Claimed ===

impl Claimed {
    /// `found` at `now`; another claim has `wait` to go.
    pub const fn new(found: Found, wait: Duration, now: u64) -> Self {
        Self { found, wait, now }
    }
}

// === impl Bump ===

impl<'a> Bump<'a> {
    /// Drops the value and tells `notice`.
    pub const fn new(notice: Notice<'a>) -> Self {
        Self {
            notice,
            keeps_value: false,
            ttl: FENCE_TTL,
        }
    }
}

// === impl Bumped ===

impl Bumped {
    /// The fence is `fence` now; the version was `before`.
    pub const fn new(fence: Fence, before: u64) -> Self {
        Self { fence, before }
    }
}

// === impl Notice ===

impl<'a> Notice<'a> {
    /// `message` for all who listen on `channel`.
    pub const fn new(channel: &'a str, message: &'a str) -> Self {
        Self { channel, message }
    }
}

// === impl Advert ===

impl<'a> Advert<'a> {
    /// `origin` is on `board`, uses `schemas`, and tells `notice`.
    pub const fn new(
        board: &'a str,
        origin: &'a str,
        seen: u64,
        schemas: &'a [(Arc<str>, Duration)],
        notice: Notice<'a>,
    ) -> Self {
        Self {
            board,
            origin,
            seen,
            schemas,
            notice,
        }
    }
}

// === impl Beat ===

impl Beat {
    /// What the board says at `now`.
    pub const fn new(
        now: u64,
        era: u64,
        schemas: Vec<(String, Duration)>,
        valid_for: Duration,
    ) -> Self {
        Self {
            now,
            era,
            schemas,
            valid_for,
        }
    }
}

// === impl DynRemote ===

impl<R: Remote> DynRemote for R {
    fn read<'a>(&'a self, key: &'a str) -> Answer<'a, Option<Found>> {
        Box::pin(Remote::read(self, key))
    }

    fn read_many<'a>(
        &'a self,
        keys: &'a [Arc<str>],
    ) -> BoxFuture<'a, Vec<Result<Option<Found>, RemoteError>>> {
        Box::pin(Remote::read_many(self, keys))
    }

    fn claim<'a>(
        &'a self,
        key: &'a str,
        owner: u64,
        hold: Duration,
        ttl: Duration,
    ) -> Answer<'a, Claimed> {
        Box::pin(Remote::claim(self, key, owner, hold, ttl))
    }

    fn release<'a>(&'a self, key: &'a str, owner: u64) -> Answer<'a, ()> {
        Box::pin(Remote::release(self, key, owner))
    }

    fn fill<'a>(
        &'a self,
        key: &'a str,
        fence: Fence,
        version: u64,
        value: Bytes,
        ttl: Duration,
    ) -> Answer<'a, bool> {
        Box::pin(Remote::fill(self, key, fence, version, value, ttl))
    }

    fn bump<'a>(&'a self, key: &'a str, bump: Bump<'a>) -> Answer<'a, Bumped> {
        Box::pin(Remote::bump(self, key, bump))
    }

    fn beat<'a>(&'a self, advert: Advert<'a>) -> Answer<'a, Beat> {
        Box::pin(Remote::beat(self, advert))
    }

    fn listen(&self, channel: &str) -> BoxStream<'static, Heard> {
        Remote::listen(self, channel)
    }
}
