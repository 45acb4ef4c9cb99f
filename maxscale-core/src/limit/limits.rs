use std::convert::Infallible;

use super::{Decision, LimitStore, LocalLimits, Policy, Quota};

#[cfg(feature = "redis")]
use super::redis::Shared;

/// The limits of an application: of this process, or of all that share a Redis.
///
/// While Redis is down each process decides alone, by the whole quota: `n`
/// processes then admit up to `n` times as much. What was admitted meanwhile
/// is not counted in Redis afterwards. It never fails and never hangs longer
/// than the handle's timeouts; Redis is used again as soon as it is back.
#[derive(Clone, Debug)]
pub struct Limits {
    local: LocalLimits,
    #[cfg(feature = "redis")]
    shared: Option<Shared>,
}

// === impl Limits ===

impl Limits {
    /// Limits of this process alone.
    pub const fn local(local: LocalLimits) -> Self {
        Self {
            local,
            #[cfg(feature = "redis")]
            shared: None,
        }
    }

    /// Limits shared through Redis, and `local` while it is down.
    #[cfg(feature = "redis")]
    #[cfg_attr(docsrs, doc(cfg(feature = "redis")))]
    pub fn shared(redis: super::RedisLimits, local: LocalLimits) -> Self {
        Self {
            local,
            shared: Some(Shared::new(redis)),
        }
    }

    /// Takes one request of `key` under `policy`; needs no HTTP around it.
    pub async fn check(&self, policy: &Policy, key: &str) -> Decision {
        self.decide(&policy.key(key), policy.quota()).await
    }

    async fn decide(&self, key: &str, quota: &Quota) -> Decision {
        #[cfg(feature = "redis")]
        if let Some(shared) = &self.shared
            && let Some(decision) = shared.take(key, quota).await
        {
            return decision;
        }
        self.local.take_now(key, quota)
    }
}

impl LimitStore for Limits {
    type Error = Infallible;

    async fn take(&self, key: &str, quota: &Quota) -> Result<Decision, Infallible> {
        Ok(self.decide(key, quota).await)
    }
}
