//! One Redis hash per key: field `f` is the fence, field `v` the sealed value.
//!
//! Each step is one script on one key, so it also runs on a cluster. Every key
//! has a TTL. Fences come from the server's clock and always rise; a key that
//! was evicted, flushed or expired has none, and fills under its old one are
//! refused. A step that timed out and runs later does no harm: a late fill
//! meets the fence, a late bump costs a load.

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use maxscale_core::redis::{Event, Redis, RedisError, Reply, Script};

use super::{FENCE_TTL, Fence, Heard, Notice, Remote, RemoteError};

const READ: &str = "\
local found = redis.call('HMGET', KEYS[1], 'f', 'v')
if found[1] and found[2] then return found end
local fence = found[1]
if not fence then
  local t = redis.call('TIME')
  fence = string.format('%.0f', t[1] * 1000000 + t[2])
  redis.call('HSET', KEYS[1], 'f', fence)
  redis.call('HDEL', KEYS[1], 'v')
end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return {fence, false}";

const FILL: &str = "\
if redis.call('HGET', KEYS[1], 'f') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'v', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1";

// A key of another type, and a server too full to take the new fence, must not
// keep the old value alive: without any fence fills are refused as well.
const BUMP: &str = "\
local old = redis.pcall('HGET', KEYS[1], 'f')
local t = redis.call('TIME')
local fence = t[1] * 1000000 + t[2]
if type(old) == 'string' and tonumber(old) and tonumber(old) >= fence then
  fence = tonumber(old) + 1
end
redis.call('DEL', KEYS[1])
redis.pcall('HSET', KEYS[1], 'f', string.format('%.0f', fence))
redis.call('PEXPIRE', KEYS[1], ARGV[1])
redis.call('PUBLISH', ARGV[2], ARGV[3])
return 1";

/// An L2 in Redis, shared by all processes that use the server.
///
/// Drops are told by pub/sub, which loses messages with a connection; the hub
/// hears of it ([`Heard::Missed`]) and empties its L1.
#[derive(Debug)]
pub struct RedisRemote {
    redis: Redis,
    read: Script,
    fill: Script,
    bump: Script,
}

// === impl RedisRemote ===

impl RedisRemote {
    /// An L2 on the server behind `redis`.
    pub const fn new(redis: Redis) -> Self {
        Self {
            redis,
            read: Script::new(READ),
            fill: Script::new(FILL),
            bump: Script::new(BUMP),
        }
    }
}

impl Remote for RedisRemote {
    async fn read(&self, key: &str) -> Result<(Option<Bytes>, Fence), RemoteError> {
        let read = self.read.call().key(key).arg(millis(FENCE_TTL));
        let reply = self.redis.script(read).await?;
        found(reply).ok_or_else(unexpected)
    }

    async fn fill(
        &self,
        key: &str,
        fence: Fence,
        value: Bytes,
        ttl: Duration,
    ) -> Result<bool, RemoteError> {
        let fill = self.fill.call().key(key);
        let fill = fill.arg(fence.get().to_string()).arg(value);
        let reply = self.redis.script(fill.arg(millis(ttl))).await?;
        Ok(reply.as_int().ok_or_else(unexpected)? == 1)
    }

    async fn bump(&self, key: &str, notice: Notice<'_>) -> Result<(), RemoteError> {
        let bump = self.bump.call().key(key).arg(millis(FENCE_TTL));
        let bump = bump.arg(notice.channel).arg(notice.message);
        let reply = self.redis.script(bump).await?;
        reply.as_int().map(drop).ok_or_else(unexpected)
    }

    fn listen(&self, channel: &str) -> BoxStream<'static, Heard> {
        let subscription = self.redis.subscribe(channel);
        stream::unfold(subscription, |mut subscription| async move {
            let heard = match subscription.next().await? {
                Event::Message(message) => Heard::Message(message),
                Event::Gap | Event::Reconnected => Heard::Missed,
            };
            Some((heard, subscription))
        })
        .boxed()
    }
}

fn found(reply: Reply) -> Option<(Option<Bytes>, Fence)> {
    let [fence, value] = <[Reply; 2]>::try_from(reply.into_array()?).ok()?;
    let fence = fence.into_bytes()?;
    let fence = std::str::from_utf8(&fence).ok()?.parse().ok()?;
    Some((value.into_bytes(), Fence::new(fence)))
}

/// At most ten years: the server refuses what its clock cannot add, when a part
/// of the script has run.
fn millis(ttl: Duration) -> i64 {
    const MOST: i64 = 10 * 365 * 86_400_000;
    i64::try_from(ttl.as_millis()).map_or(MOST, |ttl| ttl.clamp(1, MOST))
}

fn unexpected() -> RemoteError {
    RedisError::Reply { command: "EVALSHA" }.into()
}

// === impl RemoteError ===

impl From<RedisError> for RemoteError {
    fn from(error: RedisError) -> Self {
        match error {
            RedisError::Timeout { .. } => Self::TimedOut,
            error => Self::Unconfirmed(error.into()),
        }
    }
}
