use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::{Request, Response};
use maxscale_core::refusal::ReplyBody;
use pin_project_lite::pin_project;
use tower_service::Service;

use super::{Asked, vary};
use crate::cookie::CookiePolicy;

pin_project! {
    /// Response future of [`SessionService`](super::SessionService) and
    /// [`Strong`](super::Strong).
    pub struct SessionFuture<F, R, E> {
        #[pin]
        state: State<F, R, E>,
        cookie: Option<CookiePolicy>,
        varies: bool,
    }
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
    pub(super) const fn through(response: F) -> Self {
        Self::of(State::Through { response })
    }

    pub(super) const fn refused(response: Response<ReplyBody<R>>) -> Self {
        let response = Some(response);
        Self::of(State::Refused { response })
    }

    /// Asks the store first.
    pub(super) fn asking<B, S>(asked: Asked, mut request: Request<B>, mut ready: S) -> Self
    where
        S: Service<Request<B>, Response = Response<R>, Error = E, Future = F> + Send + 'static,
        F: Future<Output = Result<Response<R>, E>> + Send,
        B: Send + 'static,
    {
        let asked = Box::pin(async move {
            if let Err(refusal) = asked.settle(&mut request).await {
                return Ok(refusal.into_response(&request));
            }
            let response = ready.call(request).await?;
            Ok(response.map(ReplyBody::inner))
        });
        Self::of(State::Asking { asked })
    }

    /// The same answer, which keeps to what its cookie needs, and tells caches that it
    /// varies by who asks.
    pub(super) const fn with(mut self, cookie: CookiePolicy, varies: bool) -> Self {
        self.cookie = Some(cookie);
        self.varies = varies;
        self
    }

    const fn of(state: State<F, R, E>) -> Self {
        Self {
            state,
            cookie: None,
            varies: false,
        }
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
        if let Some(cookie) = this.cookie {
            let status = response.status();
            cookie.settle(status, response.headers_mut());
        }
        if *this.varies {
            vary::mark(response.headers_mut());
        }
        Poll::Ready(Ok(response))
    }
}

impl<F, R, E> fmt::Debug for SessionFuture<F, R, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionFuture").finish_non_exhaustive()
    }
}
