//! Layers that keep one slow part from stopping the whole.
//!
//! [`DeadlineLayer`] bounds how long a request may take, and says so to
//! everything further in. [`CircuitBreakerLayer`] stops calls to what keeps
//! failing, [`BulkheadLayer`] lets so many requests of a kind through at a time,
//! [`RetryLayer`] makes again what failed, [`Endpoints`] leave those of several
//! alone that keep failing, [`PoolGuardLayer`] refuses what matters least while a
//! pool is nearly full, [`AdaptiveLimitLayer`] learns how many calls something works
//! on at a time and refuses more, [`LoadShedderLayer`] refuses what matters least
//! while requests wait for too long. The arithmetic behind such layers lives
//! in [`control`](crate::control).
//!
//! Each layer keeps the inner service's error and answers what it does not let
//! through as a refusal. What it knows is in a handle that clones of the layer
//! share; the handle works without tower too.

mod adaptive;
mod bulkhead;
mod circuit;
mod deadline;
mod judge;
mod judged;
mod outlier;
mod pool;
mod priority;
mod retry;
mod shed;
#[cfg(test)]
mod simulated;
#[cfg(test)]
mod upstream;

use std::time::Duration;

pub use adaptive::{
    ADAPTIVE_ACTIVE, ADAPTIVE_LIMIT, ADAPTIVE_REQUESTS, AdaptiveLimit, AdaptiveLimitBuilder,
    AdaptiveLimitFuture, AdaptiveLimitLayer, AdaptiveLimitReached, AdaptivePermit,
    AdaptivelyLimited,
};
pub use bulkhead::{
    BULKHEAD_ACTIVE, BULKHEAD_REQUESTS, BULKHEAD_WAITING, Bulkhead, BulkheadBuilder, BulkheadError,
    BulkheadFuture, BulkheadKey, BulkheadLayer, BulkheadPermit, Bulkheaded, Whole,
};
pub use circuit::{
    CIRCUIT_CALLS, CIRCUIT_PHASE, CIRCUIT_TRANSITIONS, Circuit, CircuitBreaker,
    CircuitBreakerFuture, CircuitBreakerLayer, CircuitBuilder, CircuitOpen, CircuitPass,
};
pub use deadline::{DeadlineFuture, DeadlineLayer, Deadlined};
pub use judge::{ByStatus, Judge, Outcome};
pub use outlier::{
    Balanced, BalancedFuture, EndpointCall, Endpoints, EndpointsBuilder, OUTLIER_EJECTIONS,
};
pub use pool::{
    POOL_GUARD_REQUESTS, PoolBusy, PoolGuard, PoolGuardBuilder, PoolGuardFuture, PoolGuardLayer,
    PoolGuarded,
};
pub use priority::Priority;
pub use retry::{
    Idempotent, MayRepeat, RETRY_DECISIONS, Replay, Retry, RetryAttempt, RetryBudget, RetryBuilder,
    RetryFuture, RetryLayer, Retrying,
};
pub use shed::{
    ByCaller, LOAD_SHED_REQUESTS, LOAD_SHED_TIERS, LOAD_SHED_WAITING, LoadShed, LoadShedFuture,
    LoadShedKey, LoadShedPermit, LoadShedder, LoadShedderBuilder, LoadShedderLayer, Overloaded,
};

/// A layer was given a value that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResilienceError {
    /// A value is out of bounds.
    #[error("{field} is out of bounds")]
    Bounds {
        /// The setter that took it.
        field: &'static str,
    },
}

/// What times are bounded by, so that no arithmetic on them overflows.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

// === impl ResilienceError ===

impl ResilienceError {
    /// Names the first field whose check does not hold.
    fn check<const N: usize>(checks: [(&'static str, bool); N]) -> Result<(), Self> {
        match checks.into_iter().find(|(_, holds)| !holds) {
            Some((field, _)) => Err(Self::Bounds { field }),
            None => Ok(()),
        }
    }
}
