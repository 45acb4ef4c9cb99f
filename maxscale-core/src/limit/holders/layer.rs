use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::{fmt, mem};

use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::{HoldError, Holder, Holders};
use crate::fact::Facts;
use crate::limit::{LimitError, LimitKey, MissingKey};
use crate::refusal::admitted::Admitted;
use crate::refusal::{Asker, Classify, Refusal, Refuse};

/// Gives each request one of the places of its principal ([`Holders`]), and refuses it
/// while all of them are held.
///
/// What is refused is answered 429 with `Retry-After`, or its gRPC twin; where nobody
/// gets a place while Redis is down, 503. A request holds its place until the head of
/// its answer, or until it is dropped, wherever it is by then. What goes on for longer,
/// as a stream does, keeps the fact [`Held`].
#[derive(Clone, Debug)]
pub struct HoldLayer<K> {
    holders: Holders,
    key: K,
    missing: MissingKey,
    shadow: bool,
}

/// The service that [`HoldLayer`] makes.
#[derive(Clone, Debug)]
pub struct Hold<S, K> {
    inner: S,
    layer: HoldLayer<K>,
}

/// The fact that a request holds a place. The place is free once the head of the answer
/// is there and no clone of this is left: a stream that keeps one holds it to its end.
///
/// Of several [`HoldLayer`]s around one another, the places of all.
#[derive(Clone, Debug)]
pub struct Held(Arc<Places>);

#[derive(Debug)]
struct Places {
    holder: Holder,
    _outer: Option<Held>,
}

pin_project! {
    /// Response future of [`Hold`].
    pub struct HoldFuture<F, R, E> {
        #[pin]
        call: Admitted<F, Held, R, E>,
    }
}

// === impl Held ===

impl Held {
    /// The place, which tells whether its lease is [lost](Holder::lost): of several
    /// layers, that of the innermost.
    pub fn holder(&self) -> &Holder {
        &self.0.holder
    }
}

// === impl HoldLayer ===

impl<K> HoldLayer<K> {
    /// Gives each request a place of the principal that `key` says.
    pub const fn new(holders: Holders, key: K) -> Self {
        Self {
            holders,
            key,
            missing: MissingKey::Refuse,
            shadow: false,
        }
    }

    /// Sets what happens to a request without a key.
    ///
    /// Default: [`MissingKey::Refuse`].
    #[must_use]
    pub const fn missing_key(mut self, missing: MissingKey) -> Self {
        self.missing = missing;
        self
    }

    /// Lets requests pass that it would refuse, without a place; they are counted as
    /// denied. Default: no.
    #[must_use]
    pub const fn shadow(mut self, shadow: bool) -> Self {
        self.shadow = shadow;
        self
    }

    /// What follows for the request from what `holders` said.
    fn admit(
        &self,
        asked: Result<Holder, HoldError>,
        request: &mut impl Facts,
    ) -> Result<Option<Held>, HoldError> {
        let holder = match asked {
            Ok(holder) => holder,
            Err(error) => {
                tracing::debug!(shadow = self.shadow, "request refused: {error}");
                return if self.shadow { Ok(None) } else { Err(error) };
            }
        };
        let places = Places {
            holder,
            _outer: request.fact::<Held>().cloned(),
        };
        let held = Held(Arc::new(places));
        request.add_fact(held.clone());
        Ok(Some(held))
    }

    fn no_key(&self, fact: &'static str) -> LimitError {
        let policy = self.holders.name().into();
        let error = LimitError::NoKey { policy, fact };
        tracing::error!(%error, "a request cannot be limited");
        error
    }
}

impl<S, K: Clone> Layer<S> for HoldLayer<K> {
    type Service = Hold<S, K>;

    fn layer(&self, inner: S) -> Self::Service {
        Hold {
            inner,
            layer: self.clone(),
        }
    }
}

// === impl Hold ===

impl<S, K, Q> Service<Q> for Hold<S, K>
where
    S: Service<Q> + Clone + Send + 'static,
    S::Response: Refuse,
    S::Future: Send,
    K: LimitKey<Q> + Clone + Send + Sync + 'static,
    Q: Facts + Send + 'static,
{
    type Response = <S::Response as Refuse>::Reply;
    type Error = S::Error;
    type Future = HoldFuture<S::Future, Self::Response, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Q) -> Self::Future {
        let layer = &self.layer;
        let Some(key) = layer.key.key(&request) else {
            let call = match layer.missing {
                MissingKey::Skip => Admitted::forward(self.inner.call(request), None),
                MissingKey::Refuse => {
                    let error = layer.no_key(LimitKey::<Q>::fact(&layer.key));
                    Admitted::refuse(refused::<S::Response, Q>(&error, &request))
                }
            };
            return HoldFuture { call };
        };
        if let Some(asked) = layer.holders.acquire_here(&key) {
            let call = match layer.admit(asked, &mut request) {
                Ok(held) => Admitted::forward(self.inner.call(request), held),
                Err(error) => Admitted::refuse(refused::<S::Response, Q>(&error, &request)),
            };
            return HoldFuture { call };
        }
        let layer = layer.clone();
        // `poll_ready` readied this value and not its clone, so this one goes along.
        let clone = self.inner.clone();
        let mut ready = mem::replace(&mut self.inner, clone);
        let call = Admitted::wait(async move {
            let asked = layer.holders.acquire(&key).await;
            match layer.admit(asked, &mut request) {
                Ok(_held) => ready.call(request).await.map(Refuse::pass),
                Err(error) => Ok(refused::<S::Response, Q>(&error, &request)),
            }
        });
        HoldFuture { call }
    }
}

fn refused<A: Refuse, Q: Facts>(error: &impl Classify, request: &Q) -> A::Reply {
    A::refuse(Refusal::new(error), &Asker::of(request))
}

// === impl HoldFuture ===

impl<F, A, E> Future for HoldFuture<F, A::Reply, E>
where
    F: Future<Output = Result<A, E>>,
    A: Refuse,
{
    type Output = Result<A::Reply, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().call.poll(cx)
    }
}

impl<F, R, E> fmt::Debug for HoldFuture<F, R, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HoldFuture").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
