mod future;

use std::borrow::Cow;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use std::{mem, slice};

use http::header::{HeaderName, HeaderValue};
use tower_layer::Layer;
use tower_service::Service;

pub use future::LimitFuture;
use future::tell;

use super::policy::{RATELIMIT, RATELIMIT_POLICY};
use super::{Charge, Decision, Down, LimitKey, Limits, Policy, Source, Standing, Tiers};
use crate::fact::{Facts, Tier};
use crate::refusal::{Asker, Class, Classify, Refusal, Refuse};

/// Adds [`Limit`] to a stack: each request is taken from its principal's policies,
/// all or nothing.
///
/// Every answer tells the client where it stands (`RateLimit`,
/// `RateLimit-Policy`). Over a limit the answer is 429 with `Retry-After`,
/// or its gRPC twin; a client that waits so long and is alone succeeds. A job
/// over the limit is snoozed for that time. A policy that admits nothing while its
/// store is down ([`Down::Closed`]) answers 503.
#[derive(Clone, Debug)]
pub struct LimitLayer<K> {
    rule: Arc<Rule<K>>,
}

/// Passes requests on that are within their policies.
#[derive(Clone, Debug)]
pub struct Limit<S, K> {
    inner: S,
    rule: Arc<Rule<K>>,
}

/// What to do with a request that has no key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum MissingKey {
    /// Answer 500, naming what is missing: the stack is built wrongly.
    #[default]
    Refuse,
    /// Pass it on without a limit: not every request here is meant to have one.
    Skip,
}

/// Why a request was not passed on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LimitError {
    /// The request has no key.
    #[error("the limit `{policy}` needs {fact}")]
    NoKey {
        /// The policy's name.
        policy: Box<str>,
        /// What is missing, and how to add it.
        fact: &'static str,
    },

    /// The policy has no room for the request.
    #[error("over the limit `{policy}`")]
    Limited {
        /// The policy's name.
        policy: Box<str>,
        /// When it would be admitted; none if it costs more than there ever is.
        retry_after: Option<Duration>,
    },

    /// The policy admits nothing while its store is down.
    #[error("the limit `{policy}` cannot be checked")]
    Unknown {
        /// The policy's name.
        policy: Box<str>,
        /// When to ask again.
        retry_after: Option<Duration>,
    },
}

#[derive(Clone, Debug)]
struct Rule<K> {
    limits: Limits,
    policies: Vec<Which>,
    /// What a request costs, if that is the same for all tiers.
    fixed: Option<Vec<Charge>>,
    key: K,
    missing: MissingKey,
}

#[derive(Clone, Debug)]
enum Which {
    Always(Policy),
    ByTier(Tiers),
}

// === impl LimitLayer ===

impl<K: Clone> LimitLayer<K> {
    /// Takes one token of `policy` for each request's `key`, counted by `limits`.
    pub fn new(policy: Policy, key: K, limits: Limits) -> Self {
        Self::of(Which::Always(policy), key, limits)
    }

    /// As [`new`](Self::new), by the rule of the caller's [`Tier`], if a layer
    /// further out has added that fact.
    pub fn by_tier(tiers: Tiers, key: K, limits: Limits) -> Self {
        Self::of(Which::ByTier(tiers), key, limits)
    }

    fn of(which: Which, key: K, limits: Limits) -> Self {
        Self {
            rule: Arc::new(Rule {
                limits,
                fixed: fixed(slice::from_ref(&which)),
                policies: vec![which],
                key,
                missing: MissingKey::default(),
            }),
        }
    }

    /// Takes from another policy of the same key too, in the same step: a request
    /// that one denies costs nothing of the other. Their names differ.
    #[must_use]
    pub fn and(mut self, policy: Policy) -> Self {
        let rule = Arc::make_mut(&mut self.rule);
        rule.policies.push(Which::Always(policy));
        rule.fixed = fixed(&rule.policies);
        self
    }

    /// As [`and`](Self::and), by the rule of the caller's [`Tier`].
    #[must_use]
    pub fn and_by_tier(mut self, tiers: Tiers) -> Self {
        let rule = Arc::make_mut(&mut self.rule);
        rule.policies.push(Which::ByTier(tiers));
        rule.fixed = None;
        self
    }

    /// Sets what happens to a request without a key.
    ///
    /// Default: [`MissingKey::Refuse`].
    #[must_use]
    pub fn missing_key(mut self, missing: MissingKey) -> Self {
        Arc::make_mut(&mut self.rule).missing = missing;
        self
    }
}

impl<S, K> Layer<S> for LimitLayer<K> {
    type Service = Limit<S, K>;

    fn layer(&self, inner: S) -> Self::Service {
        Limit {
            inner,
            rule: self.rule.clone(),
        }
    }
}

// === impl Limit ===

impl<S, K, Q> Service<Q> for Limit<S, K>
where
    S: Service<Q> + Clone + Send + 'static,
    S::Response: Refuse,
    S::Future: Send,
    K: LimitKey<Q> + Send + Sync + 'static,
    Q: Facts + Send + 'static,
{
    type Response = <S::Response as Refuse>::Reply;
    type Error = S::Error;
    type Future = LimitFuture<S::Future, Self::Response, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Q) -> Self::Future {
        let Some(key) = self.rule.key.key(&request) else {
            return match self.rule.missing {
                MissingKey::Skip => LimitFuture::unlimited(self.inner.call(request)),
                MissingKey::Refuse => {
                    let fact = LimitKey::<Q>::fact(&self.rule.key);
                    let refusal = self.rule.no_key(fact);
                    LimitFuture::refused(S::Response::refuse(refusal, &Asker::of(&request)))
                }
            };
        };
        let charges = self.rule.charges(&request);
        let begun = match self.rule.limits.begin(&key, &charges) {
            Ok(decision) => {
                return match decision.denied_by() {
                    Some(by) => {
                        let refusal = limited(&decision, by);
                        LimitFuture::refused(S::Response::refuse(refusal, &Asker::of(&request)))
                    }
                    None => LimitFuture::limited(self.inner.call(request), decision),
                };
            }
            Err(begun) => begun,
        };
        let (limits, charges) = (self.rule.limits.clone(), charges.into_owned());
        // `poll_ready` readied this value and not its clone, so this one goes along.
        let clone = self.inner.clone();
        let mut ready = mem::replace(&mut self.inner, clone);
        LimitFuture::deciding(async move {
            let decision = limits.end(&key, &charges, begun).await;
            if let Some(by) = decision.denied_by() {
                let refusal = limited(&decision, by);
                return Ok(S::Response::refuse(refusal, &Asker::of(&request)));
            }
            let reply = ready.call(request).await?.pass();
            Ok(tell::<S::Response>(reply, &decision))
        })
    }
}

// === impl Rule ===

impl<K> Rule<K> {
    fn charges(&self, request: &impl Facts) -> Cow<'_, [Charge]> {
        if let Some(fixed) = &self.fixed {
            return Cow::Borrowed(fixed);
        }
        let tier = request.fact::<Tier>();
        let policies = self.policies.iter().map(|which| which.policy(tier));
        policies.map(|policy| policy.clone().into()).collect()
    }

    fn no_key(&self, fact: &'static str) -> Refusal {
        let first = self.policies.first();
        let policy = first.map_or("", |which| which.policy(None).name()).into();
        let error = LimitError::NoKey { policy, fact };
        tracing::error!(%error, "a request cannot be limited");
        Refusal::new(&error)
    }
}

fn fixed(policies: &[Which]) -> Option<Vec<Charge>> {
    let charge = |which: &Which| match which {
        Which::Always(policy) => Some(policy.clone().into()),
        Which::ByTier(_) => None,
    };
    policies.iter().map(charge).collect()
}

// === impl Which ===

impl Which {
    fn policy(&self, tier: Option<&Tier>) -> &Policy {
        match self {
            Self::Always(policy) => policy,
            Self::ByTier(tiers) => tiers.of(tier),
        }
    }
}

fn limited(decision: &Decision, by: &Standing) -> Refusal {
    let (policy, retry_after) = (by.policy.name().into(), by.status.retry_after);
    let unknown = decision.source() == Source::Fallback && by.policy.down() == Down::Closed;
    let error = match unknown {
        true => LimitError::Unknown {
            policy,
            retry_after,
        },
        false => LimitError::Limited {
            policy,
            retry_after,
        },
    };
    headers(decision).fold(Refusal::new(&error), |refusal, (name, value)| {
        refusal.header(name, value)
    })
}

/// What a client is told of all policies but those it is not to notice.
fn headers(decision: &Decision) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
    let policies = told(decision, |standing| standing.policy.header());
    let standings = told(decision, |standing| {
        standing.policy.standing(&standing.status, standing.allowed)
    });
    let policies = policies.map(|value| (RATELIMIT_POLICY, value));
    let standings = standings.map(|value| (RATELIMIT, value));
    policies.into_iter().chain(standings)
}

/// A list of one value for each policy.
fn told(decision: &Decision, one: fn(&Standing) -> HeaderValue) -> Option<HeaderValue> {
    let told = decision.standings().iter();
    let mut told = told
        .filter(|standing| !standing.policy.is_shadow())
        .map(one);
    let first = told.next()?;
    let Some(second) = told.next() else {
        return Some(first);
    };
    let mut list = first.as_bytes().to_vec();
    for value in [second].into_iter().chain(told) {
        list.extend_from_slice(b", ");
        list.extend_from_slice(value.as_bytes());
    }
    HeaderValue::from_maybe_shared(bytes::Bytes::from(list)).ok()
}

// === impl LimitError ===

impl Classify for LimitError {
    fn class(&self) -> Class {
        match self {
            Self::NoKey { .. } => Class::Internal,
            Self::Limited { .. } => Class::Limited,
            Self::Unknown { .. } => Class::Unavailable,
        }
    }

    // Also of a stack built wrongly: whoever builds it reads this first.
    fn detail(&self) -> Option<String> {
        Some(self.to_string())
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::NoKey { .. } => None,
            Self::Limited { retry_after, .. } | Self::Unknown { retry_after, .. } => *retry_after,
        }
    }
}

#[cfg(test)]
mod tests;
