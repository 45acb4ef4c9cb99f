use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::{AdaptiveLimit, AdaptivePermit};
use crate::fact::Facts;
use crate::refusal::{Asker, Refusal, Refuse};
use crate::resilience::judged::Judged;
use crate::resilience::{ByStatus, Judge};

/// Takes a place of an [`AdaptiveLimit`] for each request, until the head of its answer.
///
/// A request for which there is none is answered 503, or its gRPC twin.
#[derive(Clone, Debug)]
pub struct AdaptiveLimitLayer<J = ByStatus> {
    limit: AdaptiveLimit,
    judge: J,
}

/// The service that [`AdaptiveLimitLayer`] makes.
#[derive(Clone, Debug)]
pub struct AdaptivelyLimited<S, J = ByStatus> {
    inner: S,
    layer: AdaptiveLimitLayer<J>,
}

pin_project! {
    /// Response future of [`AdaptivelyLimited`].
    #[derive(Debug)]
    pub struct AdaptiveLimitFuture<F, R, J> {
        #[pin]
        call: Judged<F, R, J, AdaptivePermit>,
    }
}

// === impl AdaptiveLimitLayer ===

impl AdaptiveLimitLayer {
    /// Judges answers by their status; see [`ByStatus`].
    pub const fn new(limit: AdaptiveLimit) -> Self {
        Self {
            limit,
            judge: ByStatus::new(),
        }
    }

    /// Judges answers by `judge`.
    pub fn judged_by<J>(self, judge: J) -> AdaptiveLimitLayer<J> {
        AdaptiveLimitLayer {
            limit: self.limit,
            judge,
        }
    }
}

impl<S, J: Clone> Layer<S> for AdaptiveLimitLayer<J> {
    type Service = AdaptivelyLimited<S, J>;

    fn layer(&self, inner: S) -> Self::Service {
        AdaptivelyLimited {
            inner,
            layer: self.clone(),
        }
    }
}

// === impl AdaptivelyLimited ===

impl<S, J, Q> Service<Q> for AdaptivelyLimited<S, J>
where
    S: Service<Q>,
    S::Response: Refuse,
    Q: Facts,
    J: Judge<S::Response, S::Error> + Clone,
{
    type Response = <S::Response as Refuse>::Reply;
    type Error = S::Error;
    type Future = AdaptiveLimitFuture<S::Future, Self::Response, J>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, req: Q) -> Self::Future {
        let call = match self.layer.limit.enter() {
            Ok(permit) => Judged::forward(self.inner.call(req), permit, self.layer.judge.clone()),
            Err(reached) => {
                let refusal = Refusal::new(&reached);
                let reply = S::Response::refuse(refusal, &Asker::of(&req));
                Judged::refuse(reply)
            }
        };
        AdaptiveLimitFuture { call }
    }
}

// === impl AdaptiveLimitFuture ===

impl<F, A, E, J> Future for AdaptiveLimitFuture<F, A::Reply, J>
where
    F: Future<Output = Result<A, E>>,
    A: Refuse,
    J: Judge<A, E>,
{
    type Output = Result<A::Reply, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().call.poll(cx)
    }
}
