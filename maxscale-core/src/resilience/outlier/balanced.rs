use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tower_service::Service;

use super::call::EndpointCall;
use super::{Endpoints, bit};
use crate::resilience::{ByStatus, Judge};

/// The services of a set of [`Endpoints`], as one.
///
/// A request goes to the less busy of two endpoints that are not ejected and are
/// ready. It waits while none of these is ready, be there one that was ejected.
#[derive(Debug)]
pub struct Balanced<S, J = ByStatus> {
    endpoints: Endpoints,
    services: Vec<S>,
    judge: J,
    /// The one that is ready.
    chosen: Option<usize>,
}

pin_project! {
    /// Response future of [`Balanced`].
    #[derive(Debug)]
    pub struct BalancedFuture<F, J> {
        #[pin]
        inner: F,
        call: Option<EndpointCall>,
        judge: J,
    }
}

// === impl Balanced ===

impl<S, J> Balanced<S, J> {
    pub(super) const fn new(endpoints: Endpoints, services: Vec<S>, judge: J) -> Self {
        Self {
            endpoints,
            services,
            judge,
            chosen: None,
        }
    }

    /// Judges answers by `judge`.
    pub fn judged_by<T>(self, judge: T) -> Balanced<S, T> {
        Balanced::new(self.endpoints, self.services, judge)
    }
}

impl<S: Clone, J: Clone> Clone for Balanced<S, J> {
    /// What is ready here is not in the clone.
    fn clone(&self) -> Self {
        Self::new(
            self.endpoints.clone(),
            self.services.clone(),
            self.judge.clone(),
        )
    }
}

impl<S, J, Q> Service<Q> for Balanced<S, J>
where
    S: Service<Q>,
    J: Judge<S::Response, S::Error> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BalancedFuture<S::Future, J>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        let (turn, mut tried) = (self.endpoints.next_turn(), 0);
        // The one that was ready before, if it is still to be called.
        let before = self.chosen.take().filter(|at| self.endpoints.calls(*at));
        let mut next = before.or_else(|| self.endpoints.pick(turn, tried));
        while let Some(at) = next {
            match self.services[at].poll_ready(cx) {
                Poll::Ready(Ok(())) => {
                    self.chosen = Some(at);
                    return Poll::Ready(Ok(()));
                }
                Poll::Ready(Err(error)) => {
                    let answer = Err(error);
                    let call = EndpointCall::begin(&self.endpoints, at);
                    call.end(self.judge.outcome(&answer));
                    return Poll::Ready(answer.map(|_| ()));
                }
                Poll::Pending => tried |= bit(at),
            }
            next = self.endpoints.pick(turn, tried);
        }
        Poll::Pending
    }

    fn call(&mut self, req: Q) -> Self::Future {
        let at = self.chosen.take().expect("called before it was ready");
        let call = EndpointCall::begin(&self.endpoints, at);
        BalancedFuture {
            inner: self.services[at].call(req),
            call: Some(call),
            judge: self.judge.clone(),
        }
    }
}

// === impl BalancedFuture ===

impl<F, J, A, E> Future for BalancedFuture<F, J>
where
    F: Future<Output = Result<A, E>>,
    J: Judge<A, E>,
{
    type Output = Result<A, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let answer = ready!(this.inner.poll(cx));
        if let Some(call) = this.call.take() {
            call.end(this.judge.outcome(&answer));
        }
        Poll::Ready(answer)
    }
}
