//! Redis as [`Limits`](super::Limits) uses it: what it denied is remembered, what
//! comes at once goes together, and an error is no decision.

mod denials;
mod flights;
mod instances;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;

use super::{Call, Charge, Edit, Granted, LimitStore as _, Policy, RedisLimits, Standing};
use crate::Chain;
use crate::redis::RedisError;
use denials::Denials;
use flights::Flights;
use instances::Instances;

/// How long the log says nothing more of a server that refuses to count.
const QUIET: Duration = Duration::from_secs(60);

pub(super) struct Shared {
    pub(super) redis: RedisLimits,
    flights: Flights,
    denials: Denials,
    instances: Instances,
    pub(super) runtime: Handle,
    /// When the log may say again that Redis does not count.
    quiet_until: Mutex<Option<Instant>>,
}

// === impl Shared ===

impl Shared {
    pub(super) fn start(redis: RedisLimits) -> Arc<Self> {
        Arc::new(Self {
            instances: Instances::start(&redis),
            runtime: Handle::current(),
            redis,
            flights: Flights::new(),
            denials: Denials::new(),
            quiet_until: Mutex::default(),
        })
    }

    /// What denied requests like this one a moment ago, if it still must.
    pub(super) fn denied(&self, principal: &str, charges: &[Charge]) -> Option<Vec<Standing>> {
        self.denials.find(principal, charges, Instant::now())
    }

    /// Decides a request; none if Redis does not.
    pub(super) async fn ask(
        self: &Arc<Self>,
        principal: &str,
        charges: &[Charge],
    ) -> Option<Vec<Standing>> {
        let sent = Instant::now();
        let standings = Flights::ask(self, principal, charges).await?;
        self.denials.note(principal, charges, &standings, sent);
        Some(standings)
    }

    pub(super) fn tag(&self, principal: &str) -> u128 {
        self.redis.tag(principal)
    }

    /// How many processes count here, as far as is known.
    pub(super) fn instances(&self) -> u32 {
        self.instances.count()
    }

    pub(super) async fn run(&self, call: &Call) -> Option<Vec<Granted>> {
        self.told(self.redis.run(call).await)
    }

    pub(super) async fn edit(&self, principal: &str, policy: &Policy, edit: Edit) -> bool {
        let edited = self
            .redis
            .edit(principal, policy.name(), policy.rule(), edit);
        let edited = self.told(edited.await).is_some();
        self.denials.forget(principal, policy.name());
        edited
    }

    /// Something was given back, so what was denied may be admitted.
    pub(super) fn forget(&self, call: &Call) {
        for entry in &call.entries {
            self.denials.forget(&call.principal, &entry.policy);
        }
    }

    pub(super) fn told<T>(&self, done: Result<T, RedisError>) -> Option<T> {
        // Of a server that does not answer the handle tells, once for all keys.
        if let Err(error @ (RedisError::Server { .. } | RedisError::Reply { .. })) = &done
            && self.may_tell()
        {
            let cause = Chain(error).to_string();
            tracing::warn!(cause, "redis does not count; this process limits alone");
        }
        done.ok()
    }

    fn may_tell(&self) -> bool {
        let quiet_until = self.quiet_until.lock();
        // Nothing panics while holding it.
        let mut quiet_until = quiet_until.unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let may_tell = quiet_until.is_none_or(|until| now >= until);
        if may_tell {
            *quiet_until = Some(now + QUIET);
        }
        may_tell
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("redis", &self.redis)
            .field("instances", &self.instances.count())
            .finish_non_exhaustive()
    }
}
