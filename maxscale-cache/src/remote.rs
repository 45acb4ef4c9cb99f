//! The far tier: one store for many processes, and how they hear of drops.
//!
//! [`Remote`] is made of atomic steps so that no old value can get in. A
//! reader that misses gets the key's [`Fence`], loads, and [fills](Remote::fill)
//! under that fence; a [bump](Remote::bump) in between moves the fence and the
//! fill is refused. A store may forget whatever it likes: a forgotten fence
//! refuses fills too.
//!
//! Stores answer or fail; when to leave them alone is decided by the hub.

mod local;
#[cfg(feature = "redis")]
mod redis;

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use maxscale_core::BoxError;

pub use local::LocalRemote;
#[cfg(feature = "redis")]
pub use redis::RedisRemote;

/// How long a fence without a value is kept. A load that takes longer is not stored.
pub const FENCE_TTL: Duration = Duration::from_secs(60);

/// The state of a key between two bumps. Never used twice for one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fence(u64);

/// What a [bump](Remote::bump) tells all who listen.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Notice<'a> {
    /// Whom it is for.
    pub channel: &'a str,
    /// What is told: short ASCII text.
    pub message: &'a str,
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
    /// The value of `key` if there is one, and the fence to fill under.
    ///
    /// A key without a fence gets one that it never had before.
    fn read(
        &self,
        key: &str,
    ) -> impl Future<Output = Result<(Option<Bytes>, Fence), RemoteError>> + Send;

    /// Stores `value` for `ttl` if the key's fence is still `fence`, and says whether it did.
    fn fill(
        &self,
        key: &str,
        fence: Fence,
        value: Bytes,
        ttl: Duration,
    ) -> impl Future<Output = Result<bool, RemoteError>> + Send;

    /// In one step drops the value, moves the fence and sends `notice`.
    ///
    /// May be repeated: each time is as good as once.
    fn bump(
        &self,
        key: &str,
        notice: Notice<'_>,
    ) -> impl Future<Output = Result<(), RemoteError>> + Send;

    /// Everything told on `channel` from about now on.
    ///
    /// The stream mends itself and says [`Heard::Missed`] whenever it may have lost something.
    fn listen(&self, channel: &str) -> BoxStream<'static, Heard>;
}

/// [`Remote`] as an object, for the one place that keeps it.
pub(crate) trait DynRemote: Send + Sync {
    fn read<'a>(
        &'a self,
        key: &'a str,
    ) -> BoxFuture<'a, Result<(Option<Bytes>, Fence), RemoteError>>;
    fn fill<'a>(
        &'a self,
        key: &'a str,
        fence: Fence,
        value: Bytes,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<bool, RemoteError>>;
    fn bump<'a>(
        &'a self,
        key: &'a str,
        notice: Notice<'a>,
    ) -> BoxFuture<'a, Result<(), RemoteError>>;
    fn listen(&self, channel: &str) -> BoxStream<'static, Heard>;
}

// === impl Fence ===

impl Fence {
    /// The fence that a store numbers `number`.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The store's number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

// === impl Notice ===

impl<'a> Notice<'a> {
    /// `message` for all who listen on `channel`.
    pub const fn new(channel: &'a str, message: &'a str) -> Self {
        Self { channel, message }
    }
}

// === impl DynRemote ===

impl<R: Remote> DynRemote for R {
    fn read<'a>(
        &'a self,
        key: &'a str,
    ) -> BoxFuture<'a, Result<(Option<Bytes>, Fence), RemoteError>> {
        Box::pin(Remote::read(self, key))
    }

    fn fill<'a>(
        &'a self,
        key: &'a str,
        fence: Fence,
        value: Bytes,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<bool, RemoteError>> {
        Box::pin(Remote::fill(self, key, fence, value, ttl))
    }

    fn bump<'a>(
        &'a self,
        key: &'a str,
        notice: Notice<'a>,
    ) -> BoxFuture<'a, Result<(), RemoteError>> {
        Box::pin(Remote::bump(self, key, notice))
    }

    fn listen(&self, channel: &str) -> BoxStream<'static, Heard> {
        Remote::listen(self, channel)
    }
}
