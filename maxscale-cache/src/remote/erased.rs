//! A store of any type.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;

use super::{Advert, Beat, Bump, Bumped, Claimed, Fence, Found, Heard, Notice};
use super::{Remote, RemoteError};

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
    fn bump<'a>(&'a self, key: &'a str, bump: Bump) -> Answer<'a, Bumped>;
    fn tell<'a>(&'a self, notice: Notice<'a>) -> Answer<'a, ()>;
    fn beat<'a>(&'a self, advert: Advert<'a>) -> Answer<'a, Beat>;
    fn listen(&self, channel: &str) -> BoxStream<'static, Heard>;
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

    fn bump<'a>(&'a self, key: &'a str, bump: Bump) -> Answer<'a, Bumped> {
        Box::pin(Remote::bump(self, key, bump))
    }

    fn tell<'a>(&'a self, notice: Notice<'a>) -> Answer<'a, ()> {
        Box::pin(Remote::tell(self, notice))
    }

    fn beat<'a>(&'a self, advert: Advert<'a>) -> Answer<'a, Beat> {
        Box::pin(Remote::beat(self, advert))
    }

    fn listen(&self, channel: &str) -> BoxStream<'static, Heard> {
        Remote::listen(self, channel)
    }
}
