use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;

use super::headers;
use crate::limit::Decision;
use crate::refusal::Refuse;

pin_project! {
    /// Response future of [`Limit`](super::Limit).
    pub struct LimitFuture<F, P, E> {
        #[pin]
        state: State<F, P, E>,
    }
}

pin_project! {
    #[project = StateP]
    enum State<F, P, E> {
        Unlimited { #[pin] response: F },
        Limited { #[pin] response: F, decision: Decision },
        Refused { reply: Option<P> },
        Deciding { answer: Pin<Box<dyn Future<Output = Result<P, E>> + Send>> },
    }
}

// === impl LimitFuture ===

impl<F, P, E> LimitFuture<F, P, E> {
    pub(super) const fn unlimited(response: F) -> Self {
        Self {
            state: State::Unlimited { response },
        }
    }

    /// Allowed without a wait: the answer tells where the client stands.
    pub(super) const fn limited(response: F, decision: Decision) -> Self {
        Self {
            state: State::Limited { response, decision },
        }
    }

    pub(super) const fn refused(reply: P) -> Self {
        Self {
            state: State::Refused { reply: Some(reply) },
        }
    }

    pub(super) fn deciding(answer: impl Future<Output = Result<P, E>> + Send + 'static) -> Self {
        Self {
            state: State::Deciding {
                answer: Box::pin(answer),
            },
        }
    }
}

impl<F, A, P, E> Future for LimitFuture<F, P, E>
where
    F: Future<Output = Result<A, E>>,
    A: Refuse<Reply = P>,
{
    type Output = Result<P, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateP::Unlimited { response } => {
                Poll::Ready(ready!(response.poll(cx)).map(Refuse::pass))
            }
            StateP::Limited { response, decision } => {
                let answer = ready!(response.poll(cx));
                Poll::Ready(answer.map(|answer| tell::<A>(answer.pass(), decision)))
            }
            StateP::Refused { reply } => Poll::Ready(Ok(reply
                .take()
                .expect("a future is not polled after it has completed"))),
            StateP::Deciding { answer } => answer.as_mut().poll(cx),
        }
    }
}

/// Tells the caller where it stands.
pub(super) fn tell<A: Refuse>(mut reply: A::Reply, decision: &Decision) -> A::Reply {
    for (name, value) in headers(decision) {
        A::tell(&mut reply, name, value);
    }
    reply
}

impl<F, P, E> fmt::Debug for LimitFuture<F, P, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LimitFuture").finish_non_exhaustive()
    }
}
