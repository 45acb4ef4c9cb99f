//! The cache as a tower layer.

use std::fmt;
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Method, Request, Response};
use http_body::Body;
use maxscale_core::BoxError;
use maxscale_core::fact::Subject;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::HttpCache;
use super::body::HttpBody;
use super::directives::Directives;
use super::fetch::Errand;
use super::hints::Hints;
use super::serve::{change, serve};
use super::shared::Shared;
use super::status::Outcome;
use super::target::id_of;

/// Adds an [`HttpCache`] to a stack.
///
/// It has to stand inside of whatever decides who may ask, so that an answer from
/// the cache is given to nobody who would not have got it from the service, and
/// outside of what makes bodies, compression included.
#[derive(Clone, Debug)]
pub struct HttpCacheLayer {
    cache: HttpCache,
}

/// Answers from an [`HttpCache`], or else by the inner service.
#[derive(Clone)]
pub struct HttpCached<S> {
    inner: S,
    cache: HttpCache,
}

pin_project! {
    /// Response future of [`HttpCached`].
    pub struct HttpCachedFuture<F, R, E> {
        #[pin]
        state: State<F, R, E>,
    }
}

pin_project! {
    #[project = StateP]
    enum State<F, R, E> {
        Pass { #[pin] response: F, shared: Arc<Shared>, outcome: Outcome },
        Found { response: Option<Response<HttpBody<R>>> },
        Serve { response: BoxFuture<'static, Result<Response<HttpBody<R>>, E>> },
    }
}

/// What a cache has to do with a request.
enum Use {
    /// Nothing.
    None(Outcome),
    /// It may answer it.
    Answer(Hints),
    /// It has to forget.
    Change,
}

// === impl HttpCacheLayer ===

impl HttpCacheLayer {
    /// Answers from `cache`.
    pub const fn new(cache: HttpCache) -> Self {
        Self { cache }
    }
}

impl<S> Layer<S> for HttpCacheLayer {
    type Service = HttpCached<S>;

    fn layer(&self, inner: S) -> HttpCached<S> {
        HttpCached {
            inner,
            cache: self.cache.clone(),
        }
    }
}

// === impl HttpCached ===

impl<S> HttpCached<S> {
    fn shared(&self) -> &Arc<Shared> {
        &self.cache.shared
    }

    fn use_for<B: Body>(&self, request: &Request<B>) -> Use {
        let headers = request.headers();
        match *request.method() {
            Method::GET | Method::HEAD => {}
            Method::OPTIONS | Method::TRACE | Method::CONNECT => {
                return Use::None(Outcome::Method);
            }
            _ => return Use::Change,
        }
        let per_principal = self.shared().rules.per_principal;
        let nobody = per_principal && request.extensions().get::<Subject>().is_none();
        let hints = Hints::of(headers);
        if nobody
            // What a handler makes of a body is in no key.
            || !request.body().is_end_stream()
            || hints.beyond
            || (hints.directs && Directives::of(headers).has("no-store"))
        {
            return Use::None(Outcome::Bypass);
        }
        Use::Answer(hints)
    }
}

impl<S, B, R> Service<Request<B>> for HttpCached<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Error: Send + 'static,
    S::Future: Send,
    B: Body + Send + 'static,
    R: Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    type Response = Response<HttpBody<R>>;
    type Error = S::Error;
    type Future = HttpCachedFuture<S::Future, R, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let known = match self.use_for(&request) {
            Use::None(outcome) => {
                let response = self.inner.call(request);
                let shared = self.shared().clone();
                return HttpCachedFuture {
                    state: State::Pass {
                        response,
                        shared,
                        outcome,
                    },
                };
            }
            Use::Answer(hints) => Some((id_of(&request), hints)),
            Use::Change => None,
        };
        if let Some((id, hints)) = &known
            && let Some(response) = self.shared().respond_at_once(id, &request, *hints)
        {
            let response = Some(response);
            return HttpCachedFuture {
                state: State::Found { response },
            };
        }
        // `poll_ready` readied this value and not its clone, so this one goes along.
        let clone = self.inner.clone();
        let service = mem::replace(&mut self.inner, clone);
        let (shared, errand) = (self.shared().clone(), Errand { service, request });
        let response: BoxFuture<'static, _> = match known {
            Some((id, _)) => Box::pin(serve(shared, errand, id)),
            None => Box::pin(change(shared, errand)),
        };
        HttpCachedFuture {
            state: State::Serve { response },
        }
    }
}

impl<S> fmt::Debug for HttpCached<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpCached")
            .field("cache", &self.cache)
            .finish_non_exhaustive()
    }
}

// === impl HttpCachedFuture ===

impl<F, R, E> Future for HttpCachedFuture<F, R, E>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = Result<Response<HttpBody<R>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateP::Found { response } => {
                Poll::Ready(Ok(response.take().expect("polled after it was ready")))
            }
            StateP::Serve { response } => response.as_mut().poll(cx),
            StateP::Pass {
                response,
                shared,
                outcome,
            } => {
                let mut response = ready!(response.poll(cx))?;
                shared.teller.tell(response.headers_mut(), *outcome);
                Poll::Ready(Ok(response.map(HttpBody::inner)))
            }
        }
    }
}

impl<F, R, E> fmt::Debug for HttpCachedFuture<F, R, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpCachedFuture").finish_non_exhaustive()
    }
}
