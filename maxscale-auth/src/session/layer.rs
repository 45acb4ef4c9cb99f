use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::{Request, Response};
use maxscale_core::Chain;
use maxscale_core::refusal::{Class, Refusal, ReplyBody};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::Sessions;
use crate::cookie::CookiePolicy;

/// Adds [`SessionService`] to a stack.
#[derive(Clone, Debug)]
pub struct SessionLayer {
    shared: Arc<Shared>,
}

/// Leaves a [`Principal`] and a `Subject` in each request that carries a valid session.
///
/// A request without a session, or with a forged, revoked or expired one,
/// passes on without these facts; the handler decides. While the session's
/// shard cannot be asked, the answer is 503 and the cookie stays: never 401.
#[derive(Clone, Debug)]
pub struct SessionService<S> {
    inner: S,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    sessions: Sessions,
    cookie: CookiePolicy,
}

pin_project! {
    /// Response future of [`SessionService`].
    pub struct SessionFuture<F, R, E> {
        #[pin]
        state: State<F, R, E>,
    }
}

type Boxed<R, E> = Pin<Box<dyn Future<Output = Result<Response<ReplyBody<R>>, E>> + Send>>;

pin_project! {
    #[project = StateP]
    enum State<F, R, E> {
        // No token to ask for: the inner call itself.
        Forward { #[pin] response: F },
        Ask { asked: Boxed<R, E> },
    }
}

// === impl SessionLayer ===

impl SessionLayer {
    /// Recognises `sessions` by the cookie of `cookie`, or a bearer token.
    pub fn new(sessions: Sessions, cookie: CookiePolicy) -> Self {
        Self {
            shared: Arc::new(Shared { sessions, cookie }),
        }
    }
}

impl<S> Layer<S> for SessionLayer {
    type Service = SessionService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        SessionService {
            inner,
            shared: self.shared.clone(),
        }
    }
}

// === impl SessionService ===

impl<S, B, R> Service<Request<B>> for SessionService<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    B: Send + 'static,
    R: Send + 'static,
{
    type Response = Response<ReplyBody<R>>;
    type Error = S::Error;
    type Future = SessionFuture<S::Future, R, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let shared = self.shared.clone();
        let token =
            (shared.cookie.find(request.headers())).and_then(|text| shared.sessions.read(text));
        let Some(token) = token else {
            let response = self.inner.call(request);
            return SessionFuture {
                state: State::Forward { response },
            };
        };
        // `poll_ready` readied this value and not its clone, so this one goes along.
        let clone = self.inner.clone();
        let mut ready = mem::replace(&mut self.inner, clone);
        let asked = Box::pin(async move {
            match shared.sessions.recognise(&token).await {
                Ok(Some(principal)) => {
                    let facts = request.extensions_mut();
                    facts.insert(principal.subject().clone());
                    facts.insert(principal);
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(error = %Chain(&error), "cannot ask for a session");
                    return Ok(Refusal::of(Class::Unavailable).into_response(&request));
                }
            }
            let response = ready.call(request).await?;
            Ok(response.map(ReplyBody::inner))
        });
        SessionFuture {
            state: State::Ask { asked },
        }
    }
}

// === impl SessionFuture ===

impl<F, R, E> Future for SessionFuture<F, R, E>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = Result<Response<ReplyBody<R>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateP::Forward { response } => {
                let response = ready!(response.poll(cx))?;
                Poll::Ready(Ok(response.map(ReplyBody::inner)))
            }
            StateP::Ask { asked } => asked.as_mut().poll(cx),
        }
    }
}

impl<F, R, E> std::fmt::Debug for SessionFuture<F, R, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionFuture").finish_non_exhaustive()
    }
}
