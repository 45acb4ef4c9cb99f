use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{Decision, LimitStore, Quota};
use crate::Chain;
use crate::keys::{KeyRing, Tag};
use crate::redis::{Redis, RedisError, Reply, Script};

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
    /// Whether the log said last that processes decide alone.
    alone: Arc<AtomicBool>,
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
            alone: Arc::default(),
        }
    }

    pub(super) async fn take(&self, key: &str, quota: &Quota) -> Option<Decision> {
        match self.redis.take(key, quota).await {
            Ok(decision) => {
                if self.alone.load(Ordering::Relaxed) && self.alone.swap(false, Ordering::Relaxed) {
                    tracing::info!("limits are shared through redis again");
                }
                Some(decision)
            }
            // A single slow reply: the breaker counts them.
            Err(RedisError::Timeout { .. } | RedisError::Busy | RedisError::Late) => None,
            Err(error) => {
                if !self.alone.swap(true, Ordering::Relaxed) {
                    let cause = Chain(&error).to_string();
                    tracing::warn!(cause, "limits are decided per process until redis is back");
                }
                None
            }
        }
    }
}

#[cfg(test)]
mod tests;
