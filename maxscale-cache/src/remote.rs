//! The far tier: one store for many processes, and how they hear of drops.
//!
//! [`Remote`] is made of atomic steps so that no old value can get in. A
//! reader that misses [claims](Remote::claim) the key and gets its [`Fence`],
//! loads, and [fills](Remote::fill) under that fence; a [bump](Remote::bump) in
//! between moves the fence and the fill is refused. A store may forget whatever
//! it likes: a forgotten fence refuses fills too, and the one that takes its
//! place was never there before.
//!
//! Who bumped a key [tells](Remote::tell) the others, many keys by one message,
//! and nobody is promised anything before both are done.
//!
//! A key without values is of use too: its fence is the generation of a tag.
//!
//! Stores answer or fail; when to leave them alone is decided by the hub.

mod erased;
mod local;
mod record;
#[cfg(feature = "redis")]
mod redis;
mod told;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::stream::BoxStream;
use maxscale_core::BoxError;

pub(crate) use erased::DynRemote;
pub use local::LocalRemote;
pub use record::{Bump, Bumped, Claimed, Fence, Found};
#[cfg(feature = "redis")]
pub use redis::RedisRemote;
pub use told::{Advert, Beat, Heard, Notice};

/// How long a fence without a value is kept. A load that takes longer is not stored.
pub const FENCE_TTL: Duration = Duration::from_secs(60);

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

    /// In one step moves the fence and drops the value, unless told otherwise.
    ///
    /// May be repeated: each time is as good as once.
    fn bump(
        &self,
        key: &str,
        bump: Bump,
    ) -> impl Future<Output = Result<Bumped, RemoteError>> + Send;

    /// Sends the notice. Once it is done, whoever [listens](Self::listen) gets it
    /// before what is told later, or hears that something was missed.
    fn tell(&self, notice: Notice<'_>) -> impl Future<Output = Result<(), RemoteError>> + Send;

    /// Says that the process is there and which schemas it uses, sends the
    /// notice, and learns what the others use.
    fn beat(&self, advert: Advert<'_>) -> impl Future<Output = Result<Beat, RemoteError>> + Send;

    /// Everything told on `channel` from about now on.
    ///
    /// The stream mends itself and says [`Heard::Missed`] whenever it may have lost something.
    fn listen(&self, channel: &str) -> BoxStream<'static, Heard>;
}
