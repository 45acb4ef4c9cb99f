use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep};
use tower_layer::Layer;
use tower_service::Service;

use super::replay::{self, RetryAttempt};
use super::{Idempotent, Replay, Retry};
use crate::fact::{Deadline, Facts};
use crate::resilience::{ByStatus, Judge};

/// Makes requests again that have failed, as [`Retry`] says.
///
/// What follows on the last attempt is the answer. Dropping the future ends it
/// wherever it is.
#[derive(Clone, Debug)]
pub struct RetryLayer<R = Idempotent, J = ByStatus> {
    retry: Retry,
    replay: R,
    judge: J,
}

/// The service that [`RetryLayer`] makes.
#[derive(Clone, Debug)]
pub struct Retrying<S, R = Idempotent, J = ByStatus> {
    inner: S,
    layer: RetryLayer<R, J>,
}

pin_project! {
    /// Response future of [`Retrying`].
    #[derive(Debug)]
    pub struct RetryFuture<S, Q, R, J>
    where
        S: Service<Q>,
    {
        service: S,
        layer: RetryLayer<R, J>,
        // What the next attempt is made of, if there may be one.
        spare: Option<Q>,
        deadline: Option<Deadline>,
        made: u32,
        #[pin]
        state: State<S::Future>,
    }
}

pin_project! {
    #[derive(Debug)]
    #[project = StateP]
    enum State<F> {
        Calling { #[pin] call: F },
        // Boxed, for it is large and seldom there.
        Waiting { sleep: Pin<Box<Sleep>> },
        Readying,
    }
}

// === impl RetryLayer ===

impl RetryLayer {
    /// Makes idempotent HTTP requests again ([`Idempotent`]) whose answers failed
    /// by their status ([`ByStatus`]).
    pub const fn new(retry: Retry) -> Self {
        Self {
            retry,
            replay: Idempotent::new(),
            judge: ByStatus::new(),
        }
    }
}

impl<R, J> RetryLayer<R, J> {
    /// Makes requests again that `replay` can make again.
    pub fn replayed_by<T>(self, replay: T) -> RetryLayer<T, J> {
        RetryLayer {
            retry: self.retry,
            replay,
            judge: self.judge,
        }
    }

    /// Judges answers by `judge`.
    pub fn judged_by<T>(self, judge: T) -> RetryLayer<R, T> {
        RetryLayer {
            retry: self.retry,
            replay: self.replay,
            judge,
        }
    }
}

impl<S, R: Clone, J: Clone> Layer<S> for RetryLayer<R, J> {
    type Service = Retrying<S, R, J>;

    fn layer(&self, inner: S) -> Self::Service {
        Retrying {
            inner,
            layer: self.clone(),
        }
    }
}

// === impl Retrying ===

impl<S, Q, R, J> Service<Q> for Retrying<S, R, J>
where
    S: Service<Q> + Clone,
    Q: Facts,
    R: Replay<Q> + Clone,
    J: Judge<S::Response, S::Error> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = RetryFuture<S, Q, R, J>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut req: Q) -> Self::Future {
        // `poll_ready` readied this value and not its clone, so this one goes along.
        let clone = self.inner.clone();
        let mut service = mem::replace(&mut self.inner, clone);
        let layer = self.layer.clone();
        let deadline = req.fact::<Deadline>().copied();
        let alone = !replay::is_marked(&req);
        let spare = alone.then(|| layer.replay.again(&req)).flatten();
        if spare.is_some() {
            layer.mark(&mut req, 1);
        }
        let call = service.call(req);
        RetryFuture {
            service,
            layer,
            spare,
            deadline,
            made: 1,
            state: State::Calling { call },
        }
    }
}

// === impl RetryLayer ===

impl<R, J> RetryLayer<R, J> {
    fn mark<Q: Facts>(&self, req: &mut Q, attempt: u32)
    where
        R: Replay<Q>,
    {
        req.add_fact(RetryAttempt(attempt));
        self.replay.mark(req, attempt);
    }
}

// === impl RetryFuture ===

impl<S, Q, R, J> Future for RetryFuture<S, Q, R, J>
where
    S: Service<Q>,
    Q: Facts,
    R: Replay<Q>,
    J: Judge<S::Response, S::Error>,
{
    type Output = Result<S::Response, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            match this.state.as_mut().project() {
                StateP::Calling { call } => {
                    let answer = ready!(call.poll(cx));
                    let layer = &*this.layer;
                    if this.spare.is_none() {
                        return Poll::Ready(answer);
                    }
                    let outcome = layer.judge.outcome(&answer);
                    let pushback = layer.judge.pushback(&answer);
                    let wait = layer
                        .retry
                        .after(outcome, *this.made, pushback, *this.deadline);
                    let Some(wait) = wait else {
                        return Poll::Ready(answer);
                    };
                    let sleep = Box::pin(sleep(wait));
                    this.state.set(State::Waiting { sleep });
                }
                StateP::Waiting { sleep } => {
                    ready!(sleep.as_mut().poll(cx));
                    this.state.set(State::Readying);
                }
                StateP::Readying => {
                    ready!(this.service.poll_ready(cx))?;
                    let mut req = this.spare.take().expect("only what has a spare waits");
                    *this.spare = this.layer.replay.again(&req);
                    *this.made += 1;
                    this.layer.mark(&mut req, *this.made);
                    let call = this.service.call(req);
                    this.state.set(State::Calling { call });
                }
            }
        }
    }
}
