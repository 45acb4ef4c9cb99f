use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::{Decision, LimitStore, Quota};
use crate::Chain;
use crate::keys::{KeyRing, Tag};
use crate::redis::{Redis, RedisError, Reply, Script};

/// How long the log says nothing more of a server that refuses to count.
const QUIET: Duration = Duration::from_secs(60);

static TAKE: Script = Script::by_deadline(include_str!("redis/take.lua"));

/// Counts in Redis, for all processes that use the same server and prefix.
///
/// One script decides and counts, by the server's clock; each key expires when
/// its whole burst is available again. Keys hold a keyed hash, never the
/// address or name that they count.
///
/// While Redis is down a take fails; [`Limits`](super::Limits) then decides in
/// this process. A take that timed out may have been counted, but will not be
/// counted later: a server that comes to it after its time leaves it.
#[derive(Clone)]
pub struct RedisLimits {
    redis: Redis,
    prefix: Arc<str>,
    ring: Arc<KeyRing>,
}

/// Redis as [`Limits`](super::Limits) uses it: an error is no decision.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    redis: RedisLimits,
    /// When the log may say again that Redis does not count.
    quiet_until: Arc<Mutex<Option<Instant>>>,
}

// === impl RedisLimits ===

impl RedisLimits {
    /// Counts under keys that begin with `prefix`, hashed with the newest key
    /// of `ring`, which all processes must share. A rotated key starts all
    /// counts anew.
    pub fn new(redis: Redis, prefix: &str, ring: KeyRing) -> Self {
        Self {
            redis,
            prefix: prefix.into(),
            ring: Arc::new(ring),
        }
    }

    async fn run(
        &self,
        key: String,
        quota: &Quota,
        now: Option<i64>,
    ) -> Result<Decision, RedisError> {
        let mut take = TAKE
            .call()
            .key(key)
            .arg(quota.interval())
            .arg(quota.tolerance());
        if let Some(now) = now {
            take = take.arg(now);
        }
        let reply = self.redis.script(take).await?;
        decision(reply).ok_or(RedisError::Reply { command: "EVALSHA" })
    }

    fn name(&self, key: &str) -> String {
        let (_, tag) = self.ring.sign("limit key", key.as_bytes());
        // The version of the script's state is part of the name.
        format!("{}limit:1:{}", self.prefix, hex(&tag))
    }
}

impl LimitStore for RedisLimits {
    type Error = RedisError;

    async fn take(&self, key: &str, quota: &Quota) -> Result<Decision, RedisError> {
        self.run(self.name(key), quota, None).await
    }
}

impl fmt::Debug for RedisLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisLimits")
            .field("redis", &self.redis)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

fn decision(reply: Reply) -> Option<Decision> {
    let numbers = reply.into_array()?;
    let [allowed, left_or_wait, reset] = numbers.as_slice() else {
        return None;
    };
    let micros = |reply: &Reply| Some(Duration::from_micros(reply.as_int()?.try_into().ok()?));
    let reset = micros(reset)?;
    Some(match allowed.as_int()? {
        0 => Decision::Deny {
            retry_after: micros(left_or_wait)?,
            reset,
        },
        _ => Decision::Allow {
            remaining: left_or_wait.as_int()?.try_into().ok()?,
            reset,
        },
    })
}

/// The first 128 bits in hex: enough that no two keys meet.
fn hex(tag: &Tag) -> String {
    let bits = tag[..16]
        .iter()
        .fold(0, |bits, b| bits << 8 | u128::from(*b));
    format!("{bits:032x}")
}

// === impl Shared ===

impl Shared {
    pub(super) fn new(redis: RedisLimits) -> Self {
        Self {
            redis,
            quiet_until: Arc::default(),
        }
    }

    pub(super) async fn take(&self, key: &str, quota: &Quota) -> Option<Decision> {
        let taken = self.redis.take(key, quota).await;
        // Of a server that does not answer the handle tells, once for all keys.
        if let Err(error @ (RedisError::Server { .. } | RedisError::Reply { .. })) = &taken
            && self.may_tell()
        {
            let cause = Chain(error).to_string();
            tracing::warn!(cause, "redis does not count; this process limits alone");
        }
        taken.ok()
    }

    fn may_tell(&self) -> bool {
        // Nothing panics while holding it.
        let mut quiet_until = self
            .quiet_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let may_tell = quiet_until.is_none_or(|until| now >= until);
        if may_tell {
            *quiet_until = Some(now + QUIET);
        }
        may_tell
    }
}

#[cfg(test)]
mod tests;
