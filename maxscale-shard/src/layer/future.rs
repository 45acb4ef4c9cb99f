use std::pin::Pin;
use std::task::{Context, Poll, ready};

use maxscale_core::refusal::Refuse;
use pin_project_lite::pin_project;

pin_project! {
    /// Response future of [`Routed`](super::Routed).
    #[derive(Debug)]
    pub struct RouteFuture<F, P> {
        #[pin]
        state: State<F, P>,
    }
}

pin_project! {
    #[derive(Debug)]
    #[project = StateP]
    enum State<F, P> {
        Forward { #[pin] response: F },
        Refused { reply: Option<P> },
    }
}

// === impl RouteFuture ===

impl<F, P> RouteFuture<F, P> {
    pub(super) const fn forward(response: F) -> Self {
        Self {
            state: State::Forward { response },
        }
    }

    pub(super) const fn refused(reply: P) -> Self {
        Self {
            state: State::Refused { reply: Some(reply) },
        }
    }
}

impl<F, A, P, E> Future for RouteFuture<F, P>
where
    F: Future<Output = Result<A, E>>,
    A: Refuse<Reply = P>,
{
    type Output = Result<P, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateP::Forward { response } => {
                Poll::Ready(ready!(response.poll(cx)).map(Refuse::pass))
            }
            StateP::Refused { reply } => Poll::Ready(Ok(reply
                .take()
                .expect("a future is not polled after it has completed"))),
        }
    }
}
