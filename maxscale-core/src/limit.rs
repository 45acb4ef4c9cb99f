//! Rate limits: decided by pure arithmetic, kept in this process or in Redis.
//!
//! ```text
//!  LimitLayer ─ key of the request ─ Limits ─┬─ RedisLimits (one script, one trip)
//!                                            └─ LocalLimits (alone, or while Redis is down)
//!                                                  └ both: gcra::decide(state, now, quota)
//! ```
//!
//! A [`Quota`] admits at most `burst + rate · w` requests in *any* window of
//! length `w`; a denied request consumes nothing. [`Limits`] is the handle
//! that applications hold: the same budget serves HTTP, gRPC and jobs.
//!
//! It does not know who the client is: the key comes from a [`LimitKey`], which
//! reads a fact that a layer further out has added.

pub mod conformance;
pub mod gcra;

mod key;
mod layer;
mod limits;
mod local;
mod policy;
mod quota;
#[cfg(feature = "redis")]
mod redis;

use std::time::Duration;

pub use key::{ByClientIp, BySubject, LimitKey};
pub use layer::{Limit, LimitError, LimitFuture, LimitLayer, MissingKey};
pub use limits::Limits;
pub use local::LocalLimits;
pub use policy::{Policy, PolicyError};
pub use quota::{Quota, QuotaError};
#[cfg(feature = "redis")]
pub use redis::RedisLimits;

/// Whether one request is within its quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "callers must handle each answer")]
pub enum Decision {
    /// It is, and was counted.
    Allow {
        /// How many more would be admitted now.
        remaining: u32,
        /// The time until the whole burst is available again.
        reset: Duration,
    },
    /// It is not, and nothing was counted.
    Deny {
        /// The time until one request would be admitted, if no other comes.
        retry_after: Duration,
        /// The time until the whole burst is available again.
        reset: Duration,
    },
}

/// Counts requests per key, for this process or for many.
///
/// Every implementation passes [`conformance::check`].
pub trait LimitStore: Send + Sync {
    /// Why a take gave no decision.
    type Error: crate::refusal::Classify + Send + Sync + 'static;

    /// Takes one request from `key`'s quota: decides and counts in one step
    /// that no other take of the key can come between.
    ///
    /// A take that failed may have been counted, so it is not tried again.
    fn take(
        &self,
        key: &str,
        quota: &Quota,
    ) -> impl Future<Output = Result<Decision, Self::Error>> + Send;
}

// === impl Decision ===

impl Decision {
    /// Whether the request may go on.
    pub const fn is_allowed(&self) -> bool {
        matches!(self, Self::Allow { .. })
    }
}
