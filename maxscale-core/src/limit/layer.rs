mod future;

use std::mem;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tower_layer::Layer;
use tower_service::Service;

pub use future::LimitFuture;

use super::{Decision, LimitKey, LimitStore, Policy};
use crate::fact::Facts;
use crate::refusal::{Asker, Class, Classify, Refusal, Refuse};

/// Adds [`Limit`] to a stack: each request is taken from its key's quota.
///
/// Every answer tells the client where it stands (`RateLimit`,
/// `RateLimit-Policy`). Over the limit the answer is 429 with `Retry-After`,
/// or its gRPC twin; a client that waits so long and is alone succeeds. A job
/// over the limit is snoozed for that time.
#[derive(Clone, Debug)]
pub struct LimitLayer<K, L> {
    rule: Arc<Rule<K>>,
    store: L,
}

/// Passes requests on that are within their quota.
#[derive(Clone, Debug)]
pub struct Limit<S, K, L> {
    inner: S,
    rule: Arc<Rule<K>>,
    store: L,
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

    /// The key's quota is used up.
    #[error("over the limit `{policy}`")]
    Limited {
        /// The policy's name.
        policy: Box<str>,
        /// When one request would be admitted.
        retry_after: Duration,
    },
}

#[derive(Clone, Debug)]
struct Rule<K> {
    policy: Policy,
    key: K,
    missing: MissingKey,
}

// === impl LimitLayer ===

impl<K, L> LimitLayer<K, L> {
    /// Takes requests from `policy`'s quota per `key`, counted in `store`.
    pub fn new(policy: Policy, key: K, store: L) -> Self {
        let missing = MissingKey::default();
        Self {
            rule: Arc::new(Rule {
                policy,
                key,
                missing,
            }),
            store,
        }
    }

    /// Sets what happens to a request without a key.
    ///
    /// Default: [`MissingKey::Refuse`].
    #[must_use]
    pub fn missing_key(self, missing: MissingKey) -> Self
    where
        K: Clone,
    {
        let Rule { policy, key, .. } = Arc::unwrap_or_clone(self.rule);
        Self {
            rule: Arc::new(Rule {
                policy,
                key,
                missing,
            }),
            store: self.store,
        }
    }
}

impl<S, K, L: Clone> Layer<S> for LimitLayer<K, L> {
    type Service = Limit<S, K, L>;

    fn layer(&self, inner: S) -> Self::Service {
        Limit {
            inner,
            rule: self.rule.clone(),
            store: self.store.clone(),
        }
    }
}

// === impl Limit ===

impl<S, K, L, Q> Service<Q> for Limit<S, K, L>
where
    S: Service<Q> + Clone + Send + 'static,
    S::Response: Refuse,
    S::Future: Send,
    K: LimitKey<Q> + Send + Sync + 'static,
    L: LimitStore + Clone + 'static,
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
        // `poll_ready` readied this value and not its clone, so this one goes along.
        let clone = self.inner.clone();
        let mut ready = mem::replace(&mut self.inner, clone);
        let (rule, store) = (self.rule.clone(), self.store.clone());
        LimitFuture::deciding(async move {
            let policy = &rule.policy;
            let decision = match store.take(&policy.key(&key), policy.quota()).await {
                Ok(decision) => decision,
                Err(error) => {
                    let refusal = Refusal::new(&error);
                    return Ok(S::Response::refuse(refusal, &Asker::of(&request)));
                }
            };
            if let Decision::Deny { retry_after, .. } = decision {
                let refusal = rule.limited(&decision, retry_after);
                return Ok(S::Response::refuse(refusal, &Asker::of(&request)));
            }
            let mut reply = ready.call(request).await?.pass();
            for (name, value) in policy.headers(&decision) {
                S::Response::tell(&mut reply, name, value);
            }
            Ok(reply)
        })
    }
}

// === impl Rule ===

impl<K> Rule<K> {
    fn no_key(&self, fact: &'static str) -> Refusal {
        let policy = self.policy.name().into();
        let error = LimitError::NoKey { policy, fact };
        tracing::error!(%error, "a request cannot be limited");
        Refusal::new(&error)
    }

    fn limited(&self, decision: &Decision, retry_after: Duration) -> Refusal {
        let policy = self.policy.name().into();
        let error = LimitError::Limited {
            policy,
            retry_after,
        };
        self.policy
            .headers(decision)
            .into_iter()
            .fold(Refusal::new(&error), |refusal, (name, value)| {
                refusal.header(name, value)
            })
    }
}

// === impl LimitError ===

impl Classify for LimitError {
    fn class(&self) -> Class {
        match self {
            Self::NoKey { .. } => Class::Internal,
            Self::Limited { .. } => Class::Limited,
        }
    }

    // Also of a stack built wrongly: whoever builds it reads this first.
    fn detail(&self) -> Option<String> {
        Some(self.to_string())
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::NoKey { .. } => None,
            Self::Limited { retry_after, .. } => Some(*retry_after),
        }
    }
}

#[cfg(test)]
mod tests;
