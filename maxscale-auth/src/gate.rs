//! The answer of a layer that lets a request through or refuses it, without waiting.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::Response;
use http::header::{HeaderValue, VARY};
use maxscale_core::refusal::ReplyBody;
use pin_project_lite::pin_project;

pin_project! {
    /// Response future of a layer that lets through or refuses.
    pub struct GateFuture<F, R> {
        #[pin]
        state: State<F, R>,
        vary: Option<&'static str>,
    }
}

pin_project! {
    #[project = StateP]
    enum State<F, R> {
        Through { #[pin] response: F },
        Refused { response: Option<Response<ReplyBody<R>>> },
    }
}

// === impl GateFuture ===

impl<F, R> GateFuture<F, R> {
    pub(crate) const fn through(response: F) -> Self {
        Self {
            state: State::Through { response },
            vary: None,
        }
    }

    pub(crate) const fn refused(response: Response<ReplyBody<R>>) -> Self {
        let response = Some(response);
        Self {
            state: State::Refused { response },
            vary: None,
        }
    }

    /// The same answer, which says that it depends on these headers of the request.
    pub(crate) const fn vary(mut self, headers: &'static str) -> Self {
        self.vary = Some(headers);
        self
    }
}

impl<F, R, E> Future for GateFuture<F, R>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = Result<Response<ReplyBody<R>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = match this.state.project() {
            StateP::Through { response } => ready!(response.poll(cx))?.map(ReplyBody::inner),
            StateP::Refused { response } => response.take().expect("not polled after its end"),
        };
        if let Some(vary) = this.vary {
            let vary = HeaderValue::from_static(vary);
            response.headers_mut().append(VARY, vary);
        }
        Poll::Ready(Ok(response))
    }
}

impl<F, R> fmt::Debug for GateFuture<F, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GateFuture").finish_non_exhaustive()
    }
}
