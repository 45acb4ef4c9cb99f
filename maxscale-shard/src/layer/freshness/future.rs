use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::Response;
use maxscale_core::refusal::{Refuse, ReplyBody};
use pin_project_lite::pin_project;

use super::carry::Carry;
use crate::freshness::Freshness;

pin_project! {
    /// Response future of [`Freshened`](super::Freshened).
    pub struct FreshnessFuture<F, R> {
        #[pin]
        state: State<F, R>,
    }
}

pin_project! {
    #[project = StateP]
    enum State<F, R> {
        Forward {
            #[pin]
            response: F,
            freshness: Freshness,
            carry: Arc<Carry>,
            grpc: bool,
        },
        Refused { reply: Option<Response<ReplyBody<R>>> },
    }
}

// === impl FreshnessFuture ===

impl<F, R> FreshnessFuture<F, R> {
    pub(super) const fn forward(
        response: F,
        freshness: Freshness,
        carry: Arc<Carry>,
        grpc: bool,
    ) -> Self {
        Self {
            state: State::Forward {
                response,
                freshness,
                carry,
                grpc,
            },
        }
    }

    pub(super) const fn refused(reply: Response<ReplyBody<R>>) -> Self {
        Self {
            state: State::Refused { reply: Some(reply) },
        }
    }
}

impl<F, R, E> Future for FreshnessFuture<F, R>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = Result<Response<ReplyBody<R>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateP::Forward {
                response,
                freshness,
                carry,
                grpc,
            } => {
                let mut reply = ready!(response.poll(cx))?.pass();
                carry.tell::<R>(freshness, *grpc, &mut reply);
                Poll::Ready(Ok(reply))
            }
            StateP::Refused { reply } => Poll::Ready(Ok(reply
                .take()
                .expect("a future is not polled after it has completed"))),
        }
    }
}

impl<F, R> fmt::Debug for FreshnessFuture<F, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FreshnessFuture").finish_non_exhaustive()
    }
}
