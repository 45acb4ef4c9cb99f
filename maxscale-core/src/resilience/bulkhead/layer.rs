use std::hash::Hash;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::{fmt, mem};

use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::{Bulkhead, BulkheadError, BulkheadPermit, Entry};
use crate::fact::{Deadline, Facts};
use crate::refusal::admitted::Admitted;
use crate::refusal::{Asker, Refusal, Refuse};

/// Gives each request a place in a [`Bulkhead`] until the head of its answer.
///
/// A request for which there is none in time is answered 503, or its gRPC twin.
#[derive(Clone, Debug)]
pub struct BulkheadLayer<K = (), F = Whole> {
    bulkhead: Bulkhead<K>,
    key: F,
}

/// The service that [`BulkheadLayer`] makes.
#[derive(Clone, Debug)]
pub struct Bulkheaded<S, K = (), F = Whole> {
    inner: S,
    layer: BulkheadLayer<K, F>,
}

/// Says which places a request is to have; functions `Fn(&Q) -> Option<K>` do.
pub trait BulkheadKey<Q, K> {
    /// The request's key; `None` if it needs no place.
    fn key(&self, request: &Q) -> Option<K>;
}

/// All requests share the places.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Whole;

pin_project! {
    /// Response future of [`Bulkheaded`].
    pub struct BulkheadFuture<F, K, R, E>
    where
        K: Hash,
        K: Eq,
    {
        #[pin]
        call: Admitted<F, BulkheadPermit<K>, R, E>,
    }
}

// === impl BulkheadKey ===

impl<Q, K, F: Fn(&Q) -> Option<K>> BulkheadKey<Q, K> for F {
    fn key(&self, request: &Q) -> Option<K> {
        self(request)
    }
}

impl<Q> BulkheadKey<Q, ()> for Whole {
    fn key(&self, _: &Q) -> Option<()> {
        Some(())
    }
}

// === impl BulkheadLayer ===

impl BulkheadLayer {
    /// All requests share the places of `bulkhead`.
    pub const fn new(bulkhead: Bulkhead) -> Self {
        Self {
            bulkhead,
            key: Whole,
        }
    }
}

impl<K, F> BulkheadLayer<K, F> {
    /// Each request takes one of the places of its `key`.
    pub const fn keyed(bulkhead: Bulkhead<K>, key: F) -> Self {
        Self { bulkhead, key }
    }
}

impl<S, K, F: Clone> Layer<S> for BulkheadLayer<K, F> {
    type Service = Bulkheaded<S, K, F>;

    fn layer(&self, inner: S) -> Self::Service {
        let bulkhead = self.bulkhead.clone();
        let key = self.key.clone();
        Bulkheaded {
            inner,
            layer: Self { bulkhead, key },
        }
    }
}

// === impl Bulkheaded ===

impl<S, Q, K, F> Service<Q> for Bulkheaded<S, K, F>
where
    S: Service<Q> + Clone + Send + 'static,
    S::Response: Refuse,
    S::Future: Send,
    Q: Facts + Send + 'static,
    K: Hash + Eq + Clone + Send + Sync + 'static,
    F: BulkheadKey<Q, K>,
{
    type Response = <S::Response as Refuse>::Reply;
    type Error = S::Error;
    type Future = BulkheadFuture<S::Future, K, Self::Response, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, req: Q) -> Self::Future {
        let bulkhead = &self.layer.bulkhead;
        let entry = match self.layer.key.key(&req) {
            Some(key) => bulkhead.try_enter(&key).map(Some),
            None => Ok(None),
        };
        let call = match entry {
            Ok(Some(Entry::Full(compartment))) => {
                // `poll_ready` readied this value and not its clone, so this one goes along.
                let clone = self.inner.clone();
                let mut service = mem::replace(&mut self.inner, clone);
                let bulkhead = bulkhead.clone();
                Admitted::wait(async move {
                    let deadline = req.fact::<Deadline>().copied();
                    match bulkhead.wait(compartment, deadline).await {
                        Ok(_permit) => service.call(req).await.map(Refuse::pass),
                        Err(error) => Ok(refused::<S::Response, Q>(&error, &req)),
                    }
                })
            }
            Ok(permit) => Admitted::forward(self.inner.call(req), permit.and_then(Entry::permit)),
            Err(error) => Admitted::refuse(refused::<S::Response, Q>(&error, &req)),
        };
        BulkheadFuture { call }
    }
}

fn refused<A: Refuse, Q: Facts>(error: &BulkheadError, req: &Q) -> A::Reply {
    A::refuse(Refusal::new(error), &Asker::of(req))
}

// === impl BulkheadFuture ===

impl<F, K, A, E> Future for BulkheadFuture<F, K, A::Reply, E>
where
    F: Future<Output = Result<A, E>>,
    K: Hash + Eq,
    A: Refuse,
{
    type Output = Result<A::Reply, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().call.poll(cx)
    }
}

impl<F, K: Hash + Eq, R, E> fmt::Debug for BulkheadFuture<F, K, R, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BulkheadFuture").finish_non_exhaustive()
    }
}
