//! The routes of accounts and sessions, which are the auth crate's, below `/v1`; and
//! the pages there that links in mails lead to.

use axum::Router;
use axum::extract::Request;
use axum::http::Method;
use maxscale_auth::mail::LinkPaths;
use maxscale_auth::routes::Routes;
use maxscale_auth::{Accounts, CookiePolicy, CsrfLayer, OriginError};

use crate::public_url::PublicUrl;

const UNDER: &str = "/v1";

/// Where links in mails lead to.
pub(crate) fn link_paths() -> LinkPaths {
    let below = |page: &str| format!("{UNDER}/{page}").into();
    let mut paths = LinkPaths::default();
    paths.sign_up = below("confirm#");
    paths.reset = below("reset#");
    paths.magic = below("magic#");
    paths.email = below("email#");
    paths.undo = below("undo#");
    paths.forgot = below("forgot");
    paths
}

/// Sign-up, login, and all else that the crate offers.
pub(crate) fn account_routes(
    accounts: Accounts,
    cookie: CookiePolicy,
    public: &PublicUrl,
) -> Result<Router, OriginError> {
    let mut routes = Routes::new(accounts, cookie).origin(public.origin());
    if !public.tls() {
        routes = routes.allow_silence();
    }
    Ok(Router::new().nest(UNDER, routes.router()?))
}

/// What refuses requests that another site makes a browser send. Without TLS, as on
/// one's own machine, programs need not say where they come from.
pub(crate) fn csrf(cookie: CookiePolicy, public: &PublicUrl) -> Result<CsrfLayer, OriginError> {
    let layer = CsrfLayer::new(cookie, [public.origin()])?;
    Ok(match public.tls() {
        true => layer,
        false => layer.allow_silence(),
    })
}

/// Whether a request to one of these routes may be a guess, or have a mail sent.
pub(crate) fn is_attempt(request: &Request) -> bool {
    let path = request.uri().path();
    request.method() == Method::POST && !path.starts_with("/v1/logout")
}
