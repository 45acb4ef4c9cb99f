use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::Response;
use pin_project_lite::pin_project;

use crate::refusal::ReplyBody;

type Answer<R, E> = Result<Response<ReplyBody<R>>, E>;

pin_project! {
    /// Response future of [`Limit`](super::Limit).
    pub struct LimitFuture<F, R, E> {
        #[pin]
        state: State<F, R, E>,
    }
}

pin_project! {
    #[project = StateP]
    enum State<F, R, E> {
        Unlimited { #[pin] response: F },
        Refused { response: Option<Response<ReplyBody<R>>> },
        Deciding { answer: Pin<Box<dyn Future<Output = Answer<R, E>> + Send>> },
    }
}

// === impl LimitFuture ===

impl<F, R, E> LimitFuture<F, R, E> {
    pub(super) const fn unlimited(response: F) -> Self {
        Self {
            state: State::Unlimited { response },
        }
    }

    pub(super) const fn refused(response: Response<ReplyBody<R>>) -> Self {
        Self {
            state: State::Refused {
                response: Some(response),
            },
        }
    }

    pub(super) fn deciding(answer: impl Future<Output = Answer<R, E>> + Send + 'static) -> Self {
        Self {
            state: State::Deciding {
                answer: Box::pin(answer),
            },
        }
    }
}

impl<F, R, E> Future for LimitFuture<F, R, E>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = Answer<R, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateP::Unlimited { response } => {
                let response = ready!(response.poll(cx))?;
                Poll::Ready(Ok(response.map(ReplyBody::inner)))
            }
            StateP::Refused { response } => Poll::Ready(Ok(response
                .take()
                .expect("a future is not polled after it has completed"))),
            StateP::Deciding { answer } => answer.as_mut().poll(cx),
        }
    }
}

impl<F, R, E> fmt::Debug for LimitFuture<F, R, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LimitFuture").finish_non_exhaustive()
    }
}
