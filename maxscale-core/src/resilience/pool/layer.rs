use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::PoolGuard;
use crate::fact::Facts;
use crate::refusal::{Asker, Refusal, Refuse};
use crate::resilience::Priority;

/// Asks a [`PoolGuard`] before each request, by the request's [`Priority`].
///
/// What may not use the pool now is answered 503, or its gRPC twin.
#[derive(Clone, Debug)]
pub struct PoolGuardLayer {
    guard: PoolGuard,
}

/// The service that [`PoolGuardLayer`] makes.
#[derive(Clone, Debug)]
pub struct PoolGuarded<S> {
    inner: S,
    guard: PoolGuard,
}

pin_project! {
    /// Response future of [`PoolGuarded`].
    #[derive(Debug)]
    pub struct PoolGuardFuture<F, R> {
        #[pin]
        state: State<F, R>,
    }
}

pin_project! {
    #[derive(Debug)]
    #[project = StateP]
    enum State<F, R> {
        Forward { #[pin] inner: F },
        Refuse { reply: Option<R> },
    }
}

// === impl PoolGuardLayer ===

impl PoolGuardLayer {
    /// Asks `guard`.
    pub const fn new(guard: PoolGuard) -> Self {
        Self { guard }
    }
}

impl<S> Layer<S> for PoolGuardLayer {
    type Service = PoolGuarded<S>;

    fn layer(&self, inner: S) -> Self::Service {
        PoolGuarded {
            inner,
            guard: self.guard.clone(),
        }
    }
}

// === impl PoolGuarded ===

impl<S, Q> Service<Q> for PoolGuarded<S>
where
    S: Service<Q>,
    S::Response: Refuse,
    Q: Facts,
{
    type Response = <S::Response as Refuse>::Reply;
    type Error = S::Error;
    type Future = PoolGuardFuture<S::Future, Self::Response>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, req: Q) -> Self::Future {
        let priority = req.fact::<Priority>().copied().unwrap_or_default();
        let state = match self.guard.admit(priority) {
            Ok(()) => State::Forward {
                inner: self.inner.call(req),
            },
            Err(busy) => {
                let refusal = Refusal::new(&busy);
                let reply = S::Response::refuse(refusal, &Asker::of(&req));
                State::Refuse { reply: Some(reply) }
            }
        };
        PoolGuardFuture { state }
    }
}

// === impl PoolGuardFuture ===

impl<F, A, E> Future for PoolGuardFuture<F, A::Reply>
where
    F: Future<Output = Result<A, E>>,
    A: Refuse,
{
    type Output = Result<A::Reply, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateP::Forward { inner } => {
                let answer = ready!(inner.poll(cx));
                Poll::Ready(answer.map(Refuse::pass))
            }
            StateP::Refuse { reply } => {
                let reply = reply.take().expect("polled after it was ready");
                Poll::Ready(Ok(reply))
            }
        }
    }
}
