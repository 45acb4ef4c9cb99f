use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::{Circuit, CircuitPass};
use crate::control::Phase;
use crate::fact::Facts;
use crate::refusal::{Asker, Refusal, Refuse};
use crate::resilience::judged::Judged;
use crate::resilience::{ByStatus, Judge};

/// Asks a [`Circuit`] before each request, and tells it of the answer.
///
/// While the circuit is open requests are answered 503 with `Retry-After`, or its
/// gRPC twin, and the inner service is not even polled: it may never become
/// ready. One that waits for the inner service already goes on waiting.
#[derive(Clone, Debug)]
pub struct CircuitBreakerLayer<J = ByStatus> {
    circuit: Circuit,
    judge: J,
}

/// The service that [`CircuitBreakerLayer`] makes.
#[derive(Debug)]
pub struct CircuitBreaker<S, J = ByStatus> {
    inner: S,
    circuit: Circuit,
    judge: J,
    /// The inner service has said that it is ready.
    ready: bool,
    /// A probe's place, while the inner service becomes ready.
    held: Option<CircuitPass>,
}

pin_project! {
    /// Response future of [`CircuitBreaker`].
    #[derive(Debug)]
    pub struct CircuitBreakerFuture<F, R, J> {
        #[pin]
        call: Judged<F, R, J, CircuitPass>,
    }
}

// === impl CircuitBreakerLayer ===

impl CircuitBreakerLayer {
    /// Judges answers by their status; see [`ByStatus`].
    pub const fn new(circuit: Circuit) -> Self {
        Self {
            circuit,
            judge: ByStatus::new(),
        }
    }

    /// Judges answers by `judge`.
    pub fn judged_by<J>(self, judge: J) -> CircuitBreakerLayer<J> {
        CircuitBreakerLayer {
            circuit: self.circuit,
            judge,
        }
    }
}

impl<S, J: Clone> Layer<S> for CircuitBreakerLayer<J> {
    type Service = CircuitBreaker<S, J>;

    fn layer(&self, inner: S) -> Self::Service {
        CircuitBreaker {
            inner,
            circuit: self.circuit.clone(),
            judge: self.judge.clone(),
            ready: false,
            held: None,
        }
    }
}

// === impl CircuitBreaker ===

impl<S: Clone, J: Clone> Clone for CircuitBreaker<S, J> {
    /// Neither readiness nor a probe's place is of the clone.
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            circuit: self.circuit.clone(),
            judge: self.judge.clone(),
            ready: false,
            held: None,
        }
    }
}

impl<S, J, Q> Service<Q> for CircuitBreaker<S, J>
where
    S: Service<Q>,
    S::Response: Refuse,
    Q: Facts,
    J: Judge<S::Response, S::Error> + Clone,
{
    type Response = <S::Response as Refuse>::Reply;
    type Error = S::Error;
    type Future = CircuitBreakerFuture<S::Future, Self::Response, J>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.ready = false;
        if !self.held.as_ref().is_some_and(CircuitPass::stands) {
            // First of all, so that a place that is free again may be had again.
            self.held = None;
            if self.circuit.phase() != Phase::Closed {
                match self.circuit.enter() {
                    Ok(pass) => self.held = Some(pass),
                    // Refused when the request is there to be answered.
                    Err(_) => return Poll::Ready(Ok(())),
                }
            }
        }
        let result = ready!(self.inner.poll_ready(cx));
        let Err(error) = result else {
            self.ready = true;
            return Poll::Ready(Ok(()));
        };
        let answer = Err(error);
        let pass = match self.held.take() {
            Some(pass) => Ok(pass),
            None => self.circuit.enter(),
        };
        if let Ok(pass) = pass {
            pass.end(self.judge.outcome(&answer));
        }
        Poll::Ready(answer.map(|_| ()))
    }

    fn call(&mut self, req: Q) -> Self::Future {
        let held = self.held.take().filter(CircuitPass::stands);
        let pass = match held {
            Some(pass) => Ok(pass),
            None if self.ready => self.circuit.pass(),
            None => Err(self.circuit.turn_away()),
        };
        self.ready = false;
        let call = match pass {
            Ok(pass) => Judged::forward(self.inner.call(req), pass, self.judge.clone()),
            Err(open) => {
                let refusal = Refusal::new(&open);
                let reply = S::Response::refuse(refusal, &Asker::of(&req));
                Judged::refuse(reply)
            }
        };
        CircuitBreakerFuture { call }
    }
}

// === impl CircuitBreakerFuture ===

impl<F, A, E, J> Future for CircuitBreakerFuture<F, A::Reply, J>
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
