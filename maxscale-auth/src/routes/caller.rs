//! Who sends a request, as flows need to know it, and the cookies that answers carry.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::response::AppendHeaders;
use http::header::{COOKIE, HeaderMap, HeaderName, HeaderValue, SET_COOKIE, USER_AGENT};
use http::request::Parts;
use maxscale_core::limit::ByClientIp;
use maxscale_core::refusal::{Class, Classify};

use super::Shared;
use super::problem::Problem;
use crate::account::{Client, LoggedIn};
use crate::cookie::CookiePolicy;
use crate::principal::Principal;

/// Who sends a request.
#[derive(Debug)]
pub(super) struct Caller {
    address: String,
    device: Option<String>,
    agent: String,
    pub(super) principal: Option<Principal>,
}

/// A layer that knows the client's address is missing.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the routes of accounts have no ClientIp; add the layer that leaves it around them")]
struct NoAddress;

pub(super) type Cookies = AppendHeaders<Vec<(HeaderName, HeaderValue)>>;

/// For how long a device is known.
const DEVICE_AGE: Duration = Duration::from_secs(400 * 24 * 3600);

/// Of what a device calls itself, as much as tells devices apart.
const MAX_AGENT: usize = 256;

// === impl Caller ===

impl Caller {
    pub(super) fn client(&self) -> Client<'_> {
        Client::new(&self.address)
            .device(self.device.as_deref())
            .agent(&self.agent)
            .session(self.principal.as_ref())
    }
}

impl FromRequestParts<Arc<Shared>> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, shared: &Arc<Shared>) -> Result<Self, Problem> {
        let address = parts.extensions.get().map(ByClientIp::principal);
        let agent = parts.headers.get(USER_AGENT);
        let agent = agent.map_or(String::new(), |it| {
            String::from_utf8_lossy(it.as_bytes()).into()
        });
        Ok(Self {
            address: address.ok_or(NoAddress)?,
            device: device(&parts.headers, &shared.cookie),
            agent: agent
                .chars()
                .filter(|it| !it.is_control())
                .take(MAX_AGENT)
                .collect(),
            principal: parts.extensions.get().cloned(),
        })
    }
}

impl Classify for NoAddress {
    fn class(&self) -> Class {
        Class::Internal
    }
}

// === cookies ===

fn device(headers: &HeaderMap, cookie: &CookiePolicy) -> Option<String> {
    let lines = headers.get_all(COOKIE).iter();
    let lines = lines.filter_map(|line| line.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split(';'));
    let value = |pair: &str| {
        let value = pair.trim().strip_prefix(cookie.device_name())?;
        value.strip_prefix('=').map(str::to_owned)
    };
    pairs.find_map(value)
}

/// The cookies of a session that has just begun.
pub(super) fn begun(shared: &Shared, begun: &LoggedIn) -> Cookies {
    let life = shared.accounts.sessions().policy().absolute;
    let session = shared.cookie.set(&begun.token, life);
    cookies([session, shared.cookie.set_device(&begun.device, DEVICE_AGE)])
}

/// The cookie of a session whose secret was exchanged.
pub(super) fn exchanged(shared: &Shared, caller: &Caller, token: Option<&str>) -> Cookies {
    let life = caller.principal.as_ref().map(Principal::life_left);
    let set = |token| shared.cookie.set(token, life.unwrap_or_default());
    cookies([token.and_then(set), None])
}

/// No cookie any more.
pub(super) fn ended(shared: &Shared) -> Cookies {
    cookies([shared.cookie.clear(), None])
}

fn cookies(values: [Option<HeaderValue>; 2]) -> Cookies {
    let values = values.into_iter().flatten();
    AppendHeaders(values.map(|value| (SET_COOKIE, value)).collect())
}
