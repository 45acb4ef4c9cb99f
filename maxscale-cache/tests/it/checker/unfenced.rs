//! A store whose fences do nothing, to see the checker fail.

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use maxscale_cache::remote::{
    Advert, Beat, Bump, Bumped, Claimed, Fence, Found, Heard, Notice, RedisRemote, Remote,
    RemoteError,
};

/// Redis, with one fence for everything and ever.
#[derive(Debug)]
pub(super) struct Unfenced(pub(super) RedisRemote);

const ONE: Fence = Fence::new(1);

impl Remote for Unfenced {
    async fn read(&self, key: &str) -> Result<Option<Found>, RemoteError> {
        let found = self.0.read(key).await?;
        Ok(found.map(|found| Found::new(found.value, ONE)))
    }

    async fn claim(
        &self,
        key: &str,
        owner: u64,
        hold: Duration,
        ttl: Duration,
    ) -> Result<Claimed, RemoteError> {
        let mut claimed = self.0.claim(key, owner, hold, ttl).await?;
        claimed.found.fence = ONE;
        Ok(claimed)
    }

    async fn release(&self, key: &str, owner: u64) -> Result<(), RemoteError> {
        self.0.release(key, owner).await
    }

    async fn fill(
        &self,
        key: &str,
        _: Fence,
        version: u64,
        value: Bytes,
        ttl: Duration,
    ) -> Result<bool, RemoteError> {
        let now = self.0.claim(key, 0, Duration::ZERO, ttl).await?;
        self.0.fill(key, now.found.fence, version, value, ttl).await
    }

    async fn bump(&self, key: &str, bump: Bump) -> Result<Bumped, RemoteError> {
        let bumped = self.0.bump(key, bump).await?;
        Ok(Bumped::new(ONE, bumped.before))
    }

    async fn tell(&self, notice: Notice<'_>) -> Result<(), RemoteError> {
        self.0.tell(notice).await
    }

    async fn beat(&self, advert: Advert<'_>) -> Result<Beat, RemoteError> {
        self.0.beat(advert).await
    }

    fn listen(&self, channel: &str) -> BoxStream<'static, Heard> {
        self.0.listen(channel)
    }
}
