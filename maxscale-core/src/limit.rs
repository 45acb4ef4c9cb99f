//! Rate limits: decided by pure arithmetic, kept in this process or in Redis.
//!
//! ```text
//!  LimitLayer ─ principal ─ Limits ─┬─ leases (tokens taken ahead, of rates)
//!                                   ├─ deny cache (told a moment ago)
//!                                   ├─ RedisLimits (one script, one trip, all policies)
//!                                   └─ LocalLimits (alone, or while Redis is down)
//!                                        └ both: (state, now, rule) → (decision, state)
//! ```
//!
//! | rule | admits in *any* window `w` | keeps |
//! | --- | --- | --- |
//! | [`Rate`] | at most `burst + rate · w` | one number |
//! | [`Rate`], leased for `τ` | at most `burst + rate · (w + τ) + burst / 8` | and in each process a few |
//! | [`Quota`] | at most `limit` in its window | a number per slice |
//! | [`Log`] | exactly up to `limit` in its window | a number per request, at most 64 |
//!
//! A denied request consumes nothing, of no policy. [`Limits`] is the handle that
//! applications hold: the same budget serves HTTP, gRPC, WebSocket messages and
//! jobs.
//!
//! How many do something at once is limited by [`Holders`], guesses at a password by
//! [`Attempts`].
//!
//! It does not know who the client is: the key comes from a [`LimitKey`], which
//! reads a fact that a layer further out has added.

pub mod conformance;

mod ask;
mod attempts;
mod call;
mod counts;
mod decision;
mod denied;
mod hashes;
mod holders;
mod key;
mod layer;
#[cfg(feature = "redis")]
mod lease;
mod limits;
mod local;
mod marks;
mod overrides;
mod oversight;
mod places;
mod policy;
#[cfg(feature = "redis")]
mod redis;
mod reputation;
mod rule;
#[cfg(feature = "redis")]
mod shared;
mod state;
mod table;
mod tiers;

use std::time::Duration;

pub use attempts::{Attempt, AttemptError, Attempts, AttemptsBuilder, AttemptsError};
pub use call::{Call, Entry, Granted, Run, Status};
pub use decision::{Decision, Source, Standing};
pub use denied::Denied;
pub use holders::{
    Concurrency, ConcurrencyError, Held, Hold, HoldError, HoldFuture, HoldLayer, Holder, Holders,
};
pub use key::{ByClientIp, BySubject, LimitKey};
pub use layer::{Limit, LimitError, LimitFuture, LimitLayer, MissingKey};
pub use limits::{Charge, Limits};
pub use local::LocalLimits;
pub use overrides::OverrideError;
pub use policy::{Down, Policy, PolicyError};
#[cfg(feature = "redis")]
pub use redis::RedisLimits;
pub use reputation::{Reputation, ReputationBuilder, ReputationError};
pub use rule::{Log, Quota, Rate, Rule, RuleError};
pub use tiers::Tiers;

/// Counts requests per key, for this process or for many.
///
/// Every implementation passes [`conformance::check`].
pub trait LimitStore: Send + Sync {
    /// Why a call gave no decision.
    type Error: crate::refusal::Classify + Send + Sync + 'static;

    /// Decides and counts in one step that no other call of the principal can
    /// come between.
    ///
    /// A call that failed may have been counted, so it is not tried again.
    fn run(&self, call: &Call) -> impl Future<Output = Result<Vec<Granted>, Self::Error>> + Send;

    /// Sets what is kept of a principal under a policy with this rule.
    fn edit(
        &self,
        principal: &str,
        policy: &str,
        rule: &Rule,
        edit: Edit,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

/// An operator's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Edit {
    /// Nothing was taken, nothing is blocked.
    Reset,
    /// Everything is denied for so long, whatever the rule. It is kept with what was
    /// counted: of a quota or a log, another window (of another tier, or by an
    /// override) is not blocked with it.
    Block(Duration),
}
