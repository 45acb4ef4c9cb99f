//! Refuses what another site makes a browser send.
//!
//! ```text
//!  safe method, or bearer token alone ─────────────────────────────> through
//!  Sec-Fetch-Site: same-origin or none ────────────────────────────> through
//!  Origin: one of the list ────────────────────────────────────────> through
//!  neither header, and no session cookie (no browser, or a login) ─> through
//!  neither header, and silence is allowed ─────────────────────────> through
//!  else ───────────────────────────────────────────────────────────> 403
//! ```
//!
//! Browsers write both headers themselves, and no script can. It needs no token in
//! forms, and no state.

mod origin;

use std::collections::HashSet;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::header::{HeaderMap, HeaderName, ORIGIN, UPGRADE};
use http::{Method, Request, Response};
use maxscale_core::refusal::{Class, Classify, Refusal, ReplyBody};
use tower_layer::Layer;
use tower_service::Service;

use crate::audit::Audited;
use crate::cookie::{Ambiguous, Carried, CookiePolicy};
use crate::gate::GateFuture;
use crate::session::Sessions;

pub use origin::OriginError;

/// Adds [`Csrf`] to a stack, inside or outside of the session layer.
#[derive(Clone, Debug)]
pub struct CsrfLayer {
    shared: Arc<Shared>,
    audit: Option<Sessions>,
}

/// Lets no request through that another site had a browser send with the session
/// cookie, or to get one: 403, `cross_site`.
///
/// Logging in and out are checked too. Requests with a bearer token alone pass: no
/// browser adds one by itself. A request that asks for another protocol (a WebSocket) is
/// checked whatever its method.
#[derive(Clone, Debug)]
pub struct Csrf<S> {
    inner: S,
    shared: Arc<Shared>,
    audit: Option<Sessions>,
}

/// Response future of [`Csrf`].
pub type CsrfFuture<F, R> = GateFuture<F, R>;

#[derive(Debug)]
struct Shared {
    cookie: CookiePolicy,
    origins: HashSet<String>,
    allows_silence: bool,
}

/// A request is not let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum Refused {
    #[error(transparent)]
    Ambiguous(#[from] Ambiguous),

    #[error("the request comes from another site")]
    CrossSite,
}

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// What the answer to a request that was checked depends on.
const VARY: &str = "sec-fetch-site, origin";

// === impl CsrfLayer ===

impl CsrfLayer {
    /// Checks requests with the cookie of `cookie`. `origins` are those whose pages may
    /// send them: the service's own, for browsers that know no `Sec-Fetch-Site` (before
    /// 2023), and others that are trusted as much.
    ///
    /// # Errors
    ///
    /// Returns [`OriginError`] for what is not written as a browser writes an origin
    /// (`https://app.example`, `http://localhost:3000`), and under TLS for one without.
    pub fn new<'o>(
        cookie: CookiePolicy,
        origins: impl IntoIterator<Item = &'o str>,
    ) -> Result<Self, OriginError> {
        let checked = origins
            .into_iter()
            .map(|it| origin::check(it, cookie.is_secure()));
        let origins = checked.collect::<Result<_, _>>()?;
        let shared = Arc::new(Shared {
            cookie,
            origins,
            allows_silence: false,
        });
        Ok(Self {
            shared,
            audit: None,
        })
    }

    /// Tells the sink of `sessions` of each request that another site had a browser send
    /// ([`Audited::CrossSite`]). No store is asked for that.
    ///
    /// Default: nobody is told.
    #[must_use]
    pub fn audit(mut self, sessions: Sessions) -> Self {
        self.audit = Some(sessions);
        self
    }

    /// Lets requests through that carry the cookie and neither header: those of
    /// programs that keep cookies, as `curl` does.
    ///
    /// Browsers since 2020 send `Origin` with whatever another site has them change, so
    /// it gives way to older ones only. Default: such requests are refused.
    #[must_use]
    pub fn allow_silence(mut self) -> Self {
        self.shared = Arc::new(Shared {
            cookie: self.shared.cookie,
            origins: self.shared.origins.clone(),
            allows_silence: true,
        });
        self
    }
}

impl<S> Layer<S> for CsrfLayer {
    type Service = Csrf<S>;

    fn layer(&self, inner: S) -> Csrf<S> {
        Csrf {
            inner,
            shared: self.shared.clone(),
            audit: self.audit.clone(),
        }
    }
}

// === impl Csrf ===

impl<S, B, R> Service<Request<B>> for Csrf<S>
where
    S: Service<Request<B>, Response = Response<R>>,
{
    type Response = Response<ReplyBody<R>>;
    type Error = S::Error;
    type Future = CsrfFuture<S::Future, R>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        if is_harmless(request.method(), request.headers()) {
            return GateFuture::through(self.inner.call(request));
        }
        let gate = match self.shared.check(request.headers()) {
            Ok(()) => GateFuture::through(self.inner.call(request)),
            Err(refused) => {
                self.tell(refused, request.headers());
                GateFuture::refused(Refusal::new(&refused).into_response(&request))
            }
        };
        gate.vary(VARY)
    }
}

impl<S> Csrf<S> {
    fn tell(&self, refused: Refused, headers: &HeaderMap) {
        if let (Some(sessions), Refused::CrossSite) = (&self.audit, refused) {
            let token = self.shared.cookie.token(headers).unwrap_or_default();
            let origin = only(headers, &ORIGIN).and_then(|it| origin::check(it, false).ok());
            sessions.tell_of_token(token, Audited::CrossSite { origin });
        }
    }
}

fn is_harmless(method: &Method, headers: &HeaderMap) -> bool {
    method.is_safe() && !headers.contains_key(UPGRADE)
}

// === impl Shared ===

impl Shared {
    fn check(&self, headers: &HeaderMap) -> Result<(), Refused> {
        let carried = self.cookie.carried(headers)?;
        if matches!(carried, Carried::Bearer(_)) {
            return Ok(());
        }
        let is_own = only(headers, &SEC_FETCH_SITE)
            .is_some_and(|site| matches!(site, "same-origin" | "none"));
        let is_listed = only(headers, &ORIGIN).is_some_and(|it| self.origins.contains(it));
        let tells_nothing = !headers.contains_key(SEC_FETCH_SITE) && !headers.contains_key(ORIGIN);
        let may_be_silent = self.allows_silence || !matches!(carried, Carried::Cookie(_));
        if is_own || is_listed || (tells_nothing && may_be_silent) {
            Ok(())
        } else {
            Err(Refused::CrossSite)
        }
    }
}

/// The header's text, if it is there once.
fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    }
}

// === impl Refused ===

impl Classify for Refused {
    fn class(&self) -> Class {
        match self {
            Self::Ambiguous(error) => error.class(),
            Self::CrossSite => Class::Forbidden,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Ambiguous(error) => error.code(),
            Self::CrossSite => "cross_site",
        }
    }
}

#[cfg(test)]
mod tests;
