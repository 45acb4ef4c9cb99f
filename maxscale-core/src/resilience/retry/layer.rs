use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep};
use tower_layer::Layer;
use tower_service::Service;

use super::replay::{self, RetryAttempt};
use super::{Idempotent, Replay, Retry};
use crate::fact::{Deadline, Facts};
use crate::resilience::{ByStatus, Judge, Outcome};

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
        // None if there is to be but one attempt.
        again: Option<Attempts<S, Q, R, J>>,
        #[pin]
        state: State<S::Future>,
    }
}

/// What a request's next attempt is made of, and what decides on it.
#[derive(Debug)]
struct Attempts<S, Q, R, J> {
    service: S,
    layer: RetryLayer<R, J>,
    spare: Option<Q>,
    deadline: Option<Deadline>,
    made: u32,
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
        let alone = !replay::is_marked(&req);
        let spare = alone.then(|| self.layer.replay.again(&req)).flatten();
        let again = spare.map(|spare| {
            let deadline = req.fact::<Deadline>().copied();
            self.layer.mark(&mut req, 1);
            Attempts {
                service: self.inner.clone(),
                layer: self.layer.clone(),
                spare: Some(spare),
                deadline,
                made: 1,
            }
        });
        // `poll_ready` readied this value, and the clone is readied for each attempt.
        let call = self.inner.call(req);
        let state = State::Calling { call };
        RetryFuture { again, state }
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
                    let wait = this.again.as_ref().and_then(|it| it.wait(&answer));
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
                    let again = this.again.as_mut().expect("only what has a spare waits");
                    ready!(again.service.poll_ready(cx))?;
                    let call = again.call();
                    this.state.set(State::Calling { call });
                }
            }
        }
    }
}

// === impl Attempts ===

impl<S, Q, R, J> Attempts<S, Q, R, J>
where
    S: Service<Q>,
    Q: Facts,
    R: Replay<Q>,
    J: Judge<S::Response, S::Error>,
{
    /// How long to wait for the next one, if there is to be one after this answer.
    fn wait(&self, answer: &Result<S::Response, S::Error>) -> Option<Duration> {
        self.spare.as_ref()?;
        let RetryLayer { retry, judge, .. } = &self.layer;
        let outcome = judge.outcome(answer);
        let pushback = match outcome {
            Outcome::Succeeded => None,
            _ => judge.pushback(answer),
        };
        retry.after(outcome, self.made, pushback, self.deadline)
    }

    /// The next one. The service is ready.
    fn call(&mut self) -> S::Future {
        let mut req = self.spare.take().expect("only what has a spare waits");
        self.spare = self.layer.replay.again(&req);
        self.made += 1;
        self.layer.mark(&mut req, self.made);
        self.service.call(req)
    }
}
