//! Another rule for one principal, for a time: an operator's word.

use std::borrow::Cow;
use std::time::Duration;

use super::{Charge, Limits, Policy, Rule};
#[cfg(feature = "redis")]
use super::{Log, Quota, Rate};
use crate::BoxError;
use crate::refusal::{Class, Classify};

/// An override that cannot be, or that is not known to be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OverrideError {
    /// Its rule counts in another way than the policy's: what was counted would be
    /// of no use, and what the policy promises would not hold.
    #[error("the policy `{policy}` counts by another kind of rule")]
    Kind {
        /// The policy's name.
        policy: Box<str>,
    },

    /// It would hold for no time, or for longer than [`Limits::LONGEST_OVERRIDE`].
    #[error("an override holds for a millisecond at least and 366 days at most")]
    Time,

    /// There are [`Limits::MOST_OVERRIDES`] already.
    #[error("there are too many overrides; end some, or give these callers a tier")]
    Full,

    /// Redis did not take it. It may be there nevertheless; set it again.
    #[error("the store of limits did not take the override")]
    Store {
        /// What it said.
        #[source]
        source: BoxError,
    },
}

/// What overrides are called in Redis.
#[cfg(feature = "redis")]
pub(super) const KIND: &str = "overrides";

// === impl Limits ===

impl Limits {
    /// The longest that an override holds. Who is to have another rule for ever has
    /// a tier.
    pub const LONGEST_OVERRIDE: Duration = Duration::from_secs(366 * 24 * 3_600);

    /// How many overrides there are at most: each process holds all of them.
    pub const MOST_OVERRIDES: usize = super::marks::MOST;

    /// Decides `principal` by `rule` instead of that of `policy` for so long, in
    /// place of an earlier override, and also of the rule of a tier. What was counted
    /// goes on (a quota or a log of another window counts anew).
    ///
    /// It holds at once in this process, within a second or so in all others of the
    /// same Redis, and outlives them all; what Redis loses is lost, and while it is
    /// down each process goes on with what it knew. Without Redis it is this
    /// process's own. A request pays no trip for it: overrides are few, so each
    /// process holds all of them, by keyed hash, and asks once a second whether they
    /// have changed. Stored beside the principal's counts, they would cost every
    /// request of everybody a key more to read, and a leased or a denied one a trip
    /// that it does without. Where a policy has overrides at all, its requests pay a
    /// keyed hash, about a microsecond.
    ///
    /// # Errors
    ///
    /// [`OverrideError`]; then nothing has changed, unless it is
    /// [`OverrideError::Store`].
    ///
    /// # Cancellation
    ///
    /// Dropped, it may hold or not; within a second or so all processes agree.
    pub async fn override_rule(
        &self,
        principal: &str,
        policy: &Policy,
        rule: impl Into<Rule>,
        time: Duration,
    ) -> Result<(), OverrideError> {
        let rule = rule.into();
        if !same_kind(&rule, policy.rule()) {
            let policy = policy.name().into();
            return Err(OverrideError::Kind { policy });
        }
        if time < Duration::from_millis(1) || time > Self::LONGEST_OVERRIDE {
            return Err(OverrideError::Time);
        }
        let (about, tag) = (policy.name(), self.tag(principal));
        #[cfg(feature = "redis")]
        if let Some(shared) = self.shared_overrides() {
            let written = written(&rule);
            let set = shared.set(about, tag, (rule, &written), time);
            let fits = set.await.map_err(store)?;
            return fits.then_some(()).ok_or(OverrideError::Full);
        }
        let fits = self.overrides().set(about, tag, rule, time);
        fits.then_some(()).ok_or(OverrideError::Full)
    }

    /// Ends an override before its time, if there is one.
    ///
    /// # Errors
    ///
    /// [`OverrideError::Store`].
    ///
    /// # Cancellation
    ///
    /// As [`override_rule`](Self::override_rule).
    #[cfg_attr(
        not(feature = "redis"),
        expect(clippy::unused_async, reason = "with Redis it waits")
    )]
    pub async fn end_override(
        &self,
        principal: &str,
        policy: &Policy,
    ) -> Result<(), OverrideError> {
        let (about, tag) = (policy.name(), self.tag(principal));
        #[cfg(feature = "redis")]
        if let Some(shared) = self.shared_overrides() {
            return shared.remove(about, tag).await.map_err(store);
        }
        self.overrides().remove(about, tag);
        Ok(())
    }

    /// By which rule `principal` is decided instead of that of `policy`, and for how
    /// long, as far as this process knows.
    pub fn overridden(&self, principal: &str, policy: &Policy) -> Option<(Rule, Duration)> {
        let found = self.overrides().get(policy.name(), || self.tag(principal));
        // Written for a policy of this name that is of another kind by now.
        found.filter(|(rule, _)| same_kind(rule, policy.rule()))
    }

    /// These charges by the rules that hold for this principal.
    pub(super) fn ruled<'a>(&self, principal: &str, charges: &'a [Charge]) -> Cow<'a, [Charge]> {
        if !self.overrides().any() {
            return Cow::Borrowed(charges);
        }
        let ruled = charges.iter().map(|charge| {
            let policy = self.ruled_policy(principal, &charge.policy);
            Charge::new(policy.into_owned(), charge.cost)
        });
        Cow::Owned(ruled.collect())
    }

    /// This policy by the rule that holds for this principal.
    pub(super) fn ruled_policy<'a>(&self, principal: &str, policy: &'a Policy) -> Cow<'a, Policy> {
        if !self.overrides().any() {
            return Cow::Borrowed(policy);
        }
        match self.overridden(principal, policy) {
            Some((rule, _)) => Cow::Owned(policy.with_rule(rule)),
            None => Cow::Borrowed(policy),
        }
    }
}

#[cfg(feature = "redis")]
fn store(error: crate::redis::RedisError) -> OverrideError {
    OverrideError::Store {
        source: error.into(),
    }
}

// === impl OverrideError ===

impl Classify for OverrideError {
    fn class(&self) -> Class {
        match self {
            Self::Kind { .. } | Self::Time => Class::Invalid,
            Self::Full => Class::Conflict,
            Self::Store { .. } => Class::Unavailable,
        }
    }
}

const fn same_kind(one: &Rule, other: &Rule) -> bool {
    matches!(
        (one, other),
        (Rule::Rate(_), Rule::Rate(_))
            | (Rule::Quota(_), Rule::Quota(_))
            | (Rule::Log(_), Rule::Log(_))
    )
}

/// A rule as it is stored; windows in microseconds.
#[cfg(feature = "redis")]
fn written(rule: &Rule) -> String {
    let (per, window) = (rule.per(), rule.window().as_micros());
    match rule {
        Rule::Rate(rate) => format!("rate {per} {window} {}", rate.burst_size()),
        Rule::Quota(quota) => format!("quota {per} {window} {}", quota.slice_count()),
        Rule::Log(_) => format!("log {per} {window}"),
    }
}

/// A rule that was stored; none of a kind that is not known here.
#[cfg(feature = "redis")]
pub(super) fn read(text: &str) -> Option<Rule> {
    let mut parts = text.split(' ');
    let kind = parts.next()?;
    let per = parts.next()?.parse().ok()?;
    let window = Duration::from_micros(parts.next()?.parse().ok()?);
    match kind {
        "rate" => {
            let rate = Rate::new(per, window).ok()?;
            Some(rate.burst(parts.next()?.parse().ok()?).ok()?.into())
        }
        "quota" => {
            let quota = Quota::new(per, window).ok()?;
            Some(quota.slices(parts.next()?.parse().ok()?).ok()?.into())
        }
        "log" => Some(Log::new(per, window).ok()?.into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
