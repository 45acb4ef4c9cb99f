//! Recognises who sends a request.

mod future;
mod strong;
mod vary;

use std::mem;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use maxscale_core::Chain;
use maxscale_core::fact::{ClientIp, Subject};
use maxscale_core::refusal::{Class, Classify as _, Refusal, ReplyBody};
use tower_layer::Layer;
use tower_service::Service;

use super::sessions::Told;
use super::source::{Source, Sources};
use super::{Consistency, Sessions};
use crate::api_key::{ApiKeyError, ApiKeys, Asked};
use crate::cookie::{Carried, CookiePolicy};
#[cfg(feature = "jwt")]
use crate::jwt::SessionTokens;
use crate::principal::Principal;
use crate::token::Fingerprint;

use future::After;
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
    sources: Sources,
    cookie: CookiePolicy,
    #[cfg(feature = "jwt")]
    access: Option<SessionTokens>,
}

/// What is asked for a request.
struct Question {
    source: Source,
    of: Bearer,
}

/// Who is asked for.
enum Bearer {
    /// Who has this, which was verified.
    Token(Fingerprint),
    /// Who has this API key, whose quota it counts for.
    Key(Box<Asked>),
}

/// A session layer has seen the request, and recognised nobody.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Nobody;

// === impl SessionLayer ===

impl SessionLayer {
    /// Recognises `sessions` by the cookie of `cookie`, or a bearer token.
    pub fn new(sessions: Sessions, cookie: CookiePolicy) -> Self {
        let shared = Arc::new(Shared::new(sessions, cookie));
        Self { shared }
    }

    /// The same for the sessions of `tokens`, also by an access token as a bearer token. Who
    /// has one is recognised as by the session that it was issued in.
    ///
    /// While this process does not know the keys that tokens may be signed by, the answer to
    /// one that it does not know is 503.
    #[cfg(feature = "jwt")]
    pub fn with_tokens(tokens: SessionTokens, cookie: CookiePolicy) -> Self {
        let mut shared = Shared::new(tokens.sessions().clone(), cookie);
        shared.access = Some(tokens);
        let shared = Arc::new(shared);
        Self { shared }
    }

    /// The same, and by an API key as a bearer token: what begins as `keys` do is one, or
    /// nothing. Guards let who has one through for its [scopes](crate::Guard::scope) only.
    ///
    /// It needs the fact [`ClientIp`] around it, by which wrong keys are counted: without it
    /// requests with keys are answered with 500. A quota that is used up is a 429.
    #[must_use]
    pub fn keys(self, keys: ApiKeys) -> Self {
        let sessions = Sessions::clone(self.shared.sources.of_this_thread());
        let shared = Arc::new(Shared {
            sources: Sources::new(sessions, Some(keys)),
            cookie: self.shared.cookie,
            #[cfg(feature = "jwt")]
            access: self.shared.access.clone(),
        });
        Self { shared }
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
        let cookie = &self.shared.cookie;
        let source = self.shared.sources.of_this_thread();
        let after = After {
            cookie: *cookie,
            varies: vary::may_be_stored(request.method()),
        };
        let carried = match cookie.carried(request.headers()) {
            Ok(carried) => carried,
            Err(ambiguous) => {
                let refusal = Refusal::new(&ambiguous).into_response(&request);
                return SessionFuture::refused(refusal, after);
            }
        };
        let consistency = request.extensions().get().copied().unwrap_or_default();
        let of = match self.shared.know(carried, consistency, source) {
            Told::Known(known) => {
                let principal = Principal::of(known, Consistency::Bounded, source);
                leave(Some(principal), &mut request);
                return SessionFuture::through(self.inner.call(request), Some(after));
            }
            Told::Nobody => {
                leave(None, &mut request);
                return SessionFuture::through(self.inner.call(request), Some(after));
            }
            Told::Ask(token) => Bearer::Token(token),
            Told::Key(asked) => Bearer::Key(asked),
            #[cfg(feature = "jwt")]
            Told::Unknown => {
                let refusal = Refusal::of(Class::Unavailable).into_response(&request);
                return SessionFuture::refused(refusal, after);
            }
        };
        let source = source.clone();
        let question = Question { source, of };
        // `poll_ready` readied this value and not its clone, so this one goes along.
        let clone = self.inner.clone();
        let ready = mem::replace(&mut self.inner, clone);
        SessionFuture::asking(question, request, ready, Some(after))
    }
}

// === impl Shared ===

impl Shared {
    fn new(sessions: Sessions, cookie: CookiePolicy) -> Self {
        Self {
            sources: Sources::new(sessions, None),
            cookie,
            #[cfg(feature = "jwt")]
            access: None,
        }
    }

    /// Who has what a request carries, as far as nobody has to be asked.
    fn know(&self, carried: Carried<'_>, consistency: Consistency, source: &Source) -> Told {
        // Browsers add a cookie by themselves, and neither a key nor an access token is kept
        // in one.
        if let (Carried::Bearer(text), Some(keys)) = (carried, source.keys())
            && keys.may_be(text)
        {
            return keys.know(text, consistency);
        }
        #[cfg(feature = "jwt")]
        if let (Carried::Bearer(text), Some(access)) = (carried, &self.access)
            && SessionTokens::may_be(text)
        {
            return access.know(text, consistency);
        }
        let text = carried.token();
        text.map_or(Told::Nobody, |text| source.know(text, consistency))
    }
}

// === impl Question ===

impl Question {
    /// Asks the store and leaves the facts.
    async fn settle<B>(self, request: &mut Request<B>) -> Result<(), Refusal> {
        let source = &self.source;
        // By reference: what is moved has a second place in what is set aside for a request,
        // which is then more than an allocator has at hand.
        let asked = match (&self.of, source.keys()) {
            (Bearer::Key(asked), Some(keys)) => {
                let client = request.extensions().get::<ClientIp>().copied();
                // Held here, it would be most of what is set aside for each session.
                Box::pin(keys.admit(asked, client)).await
            }
            (Bearer::Token(token), _) => {
                let known = source.ask(token).await.map_err(ApiKeyError::Auth);
                known.map(|known| known.map(|known| (known, Consistency::Strong)))
            }
            (Bearer::Key(_), None) => Ok(None),
        };
        match asked {
            Ok(known) => {
                let principal = known.map(|(known, how)| Principal::of(known, how, source));
                leave(principal, request);
                Ok(())
            }
            Err(ApiKeyError::Auth(error)) => {
                tracing::warn!(error = %Chain(&error), "cannot ask for a session");
                Err(Refusal::of(Class::Unavailable))
            }
            Err(refused) => {
                if refused.class() == Class::Internal {
                    tracing::error!(error = %refused, "cannot take API keys");
                }
                Err(Refusal::new(&refused))
            }
        }
    }
}

/// Who was recognised before, and is not now, is no fact any more.
fn leave<B>(principal: Option<Principal>, request: &mut Request<B>) {
    let facts = request.extensions_mut();
    if let Some(principal) = principal {
        facts.insert(principal.subject().clone());
        facts.insert(principal);
        return;
    }
    // A subject that is not of ours stays.
    if facts.remove::<Principal>().is_some() {
        facts.remove::<Subject>();
    }
    facts.insert(Nobody);
}
