//! Accounts and sessions as routes for axum: JSON, and the pages that mails lead to.
//!
//! ```text
//!  request ─ no-store ─ problem+json ─ CSRF ─ session, asked strongly ─ handler ─ a flow of Accounts
//! ```
//!
//! A handler reads its body, calls one method of [`Accounts`] or
//! [`Sessions`](crate::Sessions), and answers; it decides nothing. Who wants other
//! routes calls the same methods.

mod api_key;
mod body;
mod caller;
mod flow;
#[cfg(feature = "openapi")]
mod openapi;
mod page;
mod problem;
mod session;
#[cfg(feature = "jwt")]
mod token;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, map_response};
use axum::response::Response;
use axum::routing::{delete, get, post};
use http::header::{CACHE_CONTROL, HeaderValue};

use crate::account::Accounts;
use crate::api_key::ApiKeys;
use crate::cookie::CookiePolicy;
use crate::csrf::{CsrfLayer, OriginError};
#[cfg(feature = "jwt")]
use crate::jwt::TokenGrants;
use crate::session::{SessionLayer, StrongLayer};

#[cfg(all(feature = "jwt", feature = "openapi"))]
pub use openapi::openapi_with_tokens;
#[cfg(feature = "openapi")]
pub use openapi::{openapi, openapi_with_api_keys};

/// The routes of accounts and sessions; see [`Routes::new`].
///
/// They need the fact [`ClientIp`](maxscale_core::fact::ClientIp) around them, as core's
/// stack leaves it: without it nobody could count attempts, and they answer 500.
#[derive(Clone, Debug)]
#[must_use]
pub struct Routes {
    accounts: Accounts,
    cookie: CookiePolicy,
    origins: Vec<String>,
    allows_silence: bool,
    keys: Option<ApiKeys>,
    #[cfg(feature = "jwt")]
    tokens: Option<TokenGrants>,
}

#[derive(Debug)]
struct Shared {
    accounts: Accounts,
    cookie: CookiePolicy,
    keys: Option<ApiKeys>,
    #[cfg(feature = "jwt")]
    tokens: Option<TokenGrants>,
}

// === impl Routes ===

impl Routes {
    /// The longest body of a request, in bytes.
    pub const MAX_BODY: usize = 16 * 1024;

    /// Routes to `accounts`, whose sessions are kept in the cookie of `cookie`.
    pub const fn new(accounts: Accounts, cookie: CookiePolicy) -> Self {
        Self {
            accounts,
            cookie,
            origins: Vec::new(),
            allows_silence: false,
            keys: None,
            #[cfg(feature = "jwt")]
            tokens: None,
        }
    }

    /// Adds `POST /token`, which gives programs an access token and a refresh token. What
    /// verifies them is published by [`SigningKeys::route`](crate::jwt::SigningKeys::route),
    /// outside of what these routes are nested in.
    #[cfg(feature = "jwt")]
    pub fn tokens(mut self, grants: TokenGrants) -> Self {
        self.tokens = Some(grants);
        self
    }

    /// Adds `/api-keys`: the keys of who is logged in are listed, made, exchanged and ended.
    /// No key goes there, as no access token does: who has stolen one changes no account
    /// with it.
    pub fn api_keys(mut self, keys: ApiKeys) -> Self {
        self.keys = Some(keys);
        self
    }

    /// Adds an origin whose pages may send requests; see [`CsrfLayer::new`].
    pub fn origin(mut self, origin: &str) -> Self {
        self.origins.push(origin.to_owned());
        self
    }

    /// Lets requests through that do not say where they come from; see
    /// [`CsrfLayer::allow_silence`].
    pub const fn allow_silence(mut self) -> Self {
        self.allows_silence = true;
        self
    }

    /// The router, to be nested: links in mails lead to `/auth` unless
    /// [`LinkPaths`](crate::mail::LinkPaths) says otherwise.
    ///
    /// # Errors
    ///
    /// Returns [`OriginError`] for what is no origin.
    pub fn router(self) -> Result<Router, OriginError> {
        let origins = self.origins.iter().map(String::as_str);
        let csrf = match (CsrfLayer::new(self.cookie, origins)?, self.allows_silence) {
            (csrf, true) => csrf.allow_silence(),
            (csrf, false) => csrf,
        };
        let sessions = self.accounts.sessions().clone();
        let csrf = csrf.audit(sessions.clone());
        let sessions = SessionLayer::new(sessions, self.cookie);
        let shared = Arc::new(Shared {
            accounts: self.accounts,
            cookie: self.cookie,
            keys: self.keys,
            #[cfg(feature = "jwt")]
            tokens: self.tokens,
        });
        let router = Router::new()
            .route("/signup", post(flow::sign_up))
            .route("/signup/resend", post(flow::resend))
            .route("/login", post(flow::log_in))
            .route("/logout", post(session::log_out))
            .route("/logout/all", post(session::log_out_all))
            .route("/password/forgot", post(flow::forgot))
            .route("/password/reset", post(flow::reset))
            .route("/password/change", post(flow::change_password))
            .route("/email/verify", post(flow::verify))
            .route("/email/change", post(flow::change_email))
            .route("/email/undo", post(flow::undo))
            .route("/magic/send", post(flow::send_magic))
            .route("/magic/redeem", post(flow::redeem_magic))
            .route("/reauth", post(flow::reauth))
            .route("/session", get(session::show))
            .route("/sessions", get(session::list))
            .route("/sessions/{id}", delete(session::end))
            .merge(api_key::routes(&shared));
        #[cfg(feature = "jwt")]
        let router = router.merge(token::route(&shared));
        let router = router
            .with_state(shared)
            .merge(page::pages())
            .method_not_allowed_fallback(problem::not_allowed)
            .layer(StrongLayer)
            .layer(sessions)
            .layer(csrf)
            .layer(from_fn(problem::write))
            .layer(map_response(no_store))
            .layer(DefaultBodyLimit::max(Self::MAX_BODY));
        Ok(router)
    }
}

/// Each answer is for who asked, and for now: one that says whose session it is must not
/// be what a cache shows to the next one, or a browser after the log-out.
async fn no_store(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
