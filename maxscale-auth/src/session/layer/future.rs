use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::{Request, Response};
use maxscale_core::refusal::ReplyBody;
use pin_project_lite::pin_project;
use tower_service::Service;

use super::{Question, vary};
use crate::cookie::CookiePolicy;

pin_project! {
    /// Response future of [`SessionService`](super::SessionService) and
    /// [`Strong`](super::Strong).
    pub struct SessionFuture<F, R, E> {
        #[pin]
        state: State<F, R, E>,
        after: Option<After>,
    }
}

/// What is done to an answer.
#[derive(Clone, Copy)]
pub(super) struct After {
    /// It keeps to what this cookie needs.
    pub(super) cookie: CookiePolicy,
    /// It tells caches that it varies by who asks.
    pub(super) varies: bool,
}

type Boxed<R, E> = Pin<Box<dyn Future<Output = Result<Response<ReplyBody<R>>, E>> + Send>>;

pin_project! {
    #[project = StateP]
    enum State<F, R, E> {
        // Nobody to ask: the inner call itself.
        Through { #[pin] response: F },
        Asking { asked: Boxed<R, E> },
        Refused { response: Option<Response<ReplyBody<R>>> },
    }
}

// === impl SessionFuture ===

impl<F, R, E> SessionFuture<F, R, E> {
    pub(super) const fn through(response: F, after: Option<After>) -> Self {
        let state = State::Through { response };
        Self { state, after }
    }

    pub(super) const fn refused(response: Response<ReplyBody<R>>, after: After) -> Self {
        let response = Some(response);
        Self {
            state: State::Refused { response },
            after: Some(after),
        }
    }

    /// Asks the store first.
    pub(super) fn asking<B, S>(
        question: Question,
        mut request: Request<B>,
        mut ready: S,
        after: Option<After>,
    ) -> Self
    where
        S: Service<Request<B>, Response = Response<R>, Error = E, Future = F> + Send + 'static,
        F: Future<Output = Result<Response<R>, E>> + Send,
        B: Send + 'static,
    {
        let asked = Box::pin(async move {
            if let Err(refusal) = question.settle(&mut request).await {
                return Ok(refusal.into_response(&request));
            }
            let response = ready.call(request).await?;
            Ok(response.map(ReplyBody::inner))
        });
        let state = State::Asking { asked };
        Self { state, after }
    }
}

impl<F, R, E> Future for SessionFuture<F, R, E>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = Result<Response<ReplyBody<R>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = match this.state.project() {
            StateP::Through { response } => ready!(response.poll(cx))?.map(ReplyBody::inner),
            StateP::Asking { asked } => ready!(asked.as_mut().poll(cx))?,
            StateP::Refused { response } => response.take().expect("not polled after its end"),
        };
        if let Some(after) = this.after {
            let status = response.status();
            after.cookie.settle(status, response.headers_mut());
            if after.varies {
                vary::mark(response.headers_mut());
            }
        }
        Poll::Ready(Ok(response))
    }
}

impl<F, R, E> fmt::Debug for SessionFuture<F, R, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionFuture").finish_non_exhaustive()
    }
}
