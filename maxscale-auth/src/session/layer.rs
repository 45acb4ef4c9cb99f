//! Recognises who sends a request.

mod future;
mod strong;
mod vary;

use std::mem;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use maxscale_core::Chain;
use maxscale_core::fact::Subject;
use maxscale_core::refusal::{Class, Refusal, ReplyBody};
use tower_layer::Layer;
use tower_service::Service;

use super::{Consistency, Sessions};
use crate::cookie::CookiePolicy;
use crate::principal::Principal;
use crate::token::SessionToken;

pub use future::SessionFuture;
pub use strong::{Strong, StrongLayer};

/// Adds [`SessionService`] to a stack.
#[derive(Clone, Debug)]
pub struct SessionLayer {
    shared: Arc<Shared>,
}

/// Leaves a [`Principal`](crate::Principal) and a `Subject` in each request that carries a valid session.
///
/// A request without a session, or with a forged, revoked or expired one,
/// passes on without these facts; the handler decides. One with two credentials is
/// refused ([`Ambiguous`](crate::Ambiguous)). While the session's
/// shard cannot be asked, the answer is 503 and the cookie stays: never 401.
///
/// An answer that sets the session cookie is marked so that no cache stores it; one
/// that tells of a fault of the server loses it. An answer to GET or HEAD says that it
/// varies by who asks, unless its `Cache-Control` has `public`, `s-maxage` or `no-store`:
/// caches may store what says nothing, and show it to others.
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

/// A session layer has seen the request: what it asked for, and whom.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) sessions: Sessions,
    token: Option<SessionToken>,
    consistency: Consistency,
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
        let Shared { sessions, cookie } = &*self.shared;
        let varies = vary::may_be_stored(request.method());
        let text = match cookie.token(request.headers()) {
            Ok(text) => text,
            Err(ambiguous) => {
                let refusal = Refusal::new(&ambiguous).into_response(&request);
                return SessionFuture::refused(refusal).with(*cookie, varies);
            }
        };
        let token = text.and_then(|text| sessions.read(text));
        let consistency = request.extensions().get().copied().unwrap_or_default();
        let asked = Asked {
            sessions: sessions.clone(),
            token,
            consistency,
        };
        let asked = match asked.settle_at_once(&mut request) {
            Ok(()) => {
                let response = self.inner.call(request);
                return SessionFuture::through(response).with(*cookie, varies);
            }
            Err(asked) => asked,
        };
        // `poll_ready` readied this value and not its clone, so this one goes along.
        let clone = self.inner.clone();
        let ready = mem::replace(&mut self.inner, clone);
        SessionFuture::asking(asked, request, ready).with(*cookie, varies)
    }
}

// === impl Asked ===

impl Asked {
    /// Leaves the facts, if nobody has to be asked for them.
    fn settle_at_once<B>(self, request: &mut Request<B>) -> Result<(), Self> {
        let principal = match (&self.token, self.consistency) {
            (None, _) => None,
            (Some(_), Consistency::Strong) => return Err(self),
            (Some(token), Consistency::Bounded) => match self.sessions.recognise_near(token) {
                Some(principal) => Some(principal),
                None => return Err(self),
            },
        };
        self.leave(principal, request);
        Ok(())
    }

    /// Asks the store and leaves the facts.
    async fn settle<B>(mut self, request: &mut Request<B>) -> Result<(), Refusal> {
        let principal = match &self.token {
            None => None,
            Some(token) => match self.sessions.recognise_strong(token).await {
                Ok(principal) => principal,
                Err(error) => {
                    tracing::warn!(error = %Chain(&error), "cannot ask for a session");
                    return Err(Refusal::of(Class::Unavailable));
                }
            },
        };
        self.consistency = Consistency::Strong;
        self.leave(principal, request);
        Ok(())
    }

    /// Who was recognised before, and is not now, is no fact any more.
    fn leave<B>(self, principal: Option<Principal>, request: &mut Request<B>) {
        let facts = request.extensions_mut();
        match principal {
            Some(principal) => {
                facts.insert(principal.subject().clone());
                facts.insert(principal);
            }
            None => {
                // A subject that is not of ours stays.
                if facts.remove::<Principal>().is_some() {
                    facts.remove::<Subject>();
                }
            }
        }
        facts.insert(self);
    }
}
