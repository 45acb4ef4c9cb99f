//! What a client changed itself it sees at once, whichever process answers.
//!
//! The answer to a change brings tokens as cookies, each for the paths where the
//! changed thing is read, for as long as an older value may live anywhere. A token that
//! was made up costs a load.

use std::convert::Infallible;
use std::str::FromStr as _;

use axum::Extension;
use axum::extract::FromRequestParts;
use axum::extract::rejection::ExtensionRejection;
use axum::http::header::{COOKIE, SET_COOKIE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response;
use maxscale_cache::Token;
use maxscale_core::id::Id;
use maxscale_shard::FreshShard;

use crate::reads::LIVES;

/// What is read through the cache, and so can be older than the client's own change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Thing {
    /// The own profile.
    Profile,
    /// The list of the own projects.
    Projects,
    /// One of them.
    Project(Id),
}

/// What a client says it changed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Changed {
    pub(super) profile: Option<Token>,
    pub(super) projects: Option<Token>,
    /// The project in the request's path.
    pub(super) project: Option<Token>,
}

/// Where the rows of who asks are, and what is to be seen of them.
#[derive(Clone, Debug)]
pub(super) struct Mine {
    pub(super) shard: FreshShard,
    pub(super) changed: Changed,
}

const PROFILE: &str = "changed-profile";
const PROJECTS: &str = "changed-projects";
const PROJECT: &str = "changed-project";

// === impl Changed ===

impl Changed {
    fn of(headers: &HeaderMap) -> Self {
        let mut changed = Self::default();
        let lines = headers.get_all(COOKIE).iter();
        let lines = lines.filter_map(|line| line.to_str().ok());
        for (name, text) in lines
            .flat_map(|line| line.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
        {
            let place = match name {
                PROFILE => &mut changed.profile,
                PROJECTS => &mut changed.projects,
                PROJECT => &mut changed.project,
                _ => continue,
            };
            *place = Token::from_str(text).ok();
        }
        changed
    }
}

impl<S: Sync> FromRequestParts<S> for Changed {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::of(&parts.headers))
    }
}

// === impl Mine ===

impl<S: Send + Sync> FromRequestParts<S> for Mine {
    type Rejection = ExtensionRejection;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        let Extension(shard) = Extension::from_request_parts(parts, state).await?;
        let changed = Changed::of(&parts.headers);
        Ok(Self { shard, changed })
    }
}

// === impl Thing ===

impl Thing {
    /// Tells the client of `response` that it changed this.
    pub(super) fn tell(self, token: Token, secure: bool, response: &mut Response) {
        let (name, path) = match self {
            Self::Profile => (PROFILE, "/v1/me".to_owned()),
            Self::Projects => (PROJECTS, "/v1/projects".to_owned()),
            Self::Project(id) => (PROJECT, format!("/v1/projects/{id}")),
        };
        let age = LIVES.as_secs();
        let secure = if secure { "; Secure" } else { "" };
        let text =
            format!("{name}={token}; Path={path}; HttpOnly; SameSite=Lax; Max-Age={age}{secure}");
        // Ids and tokens: always text for a header.
        if let Ok(cookie) = HeaderValue::try_from(text) {
            response.headers_mut().append(SET_COOKIE, cookie);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_brings_back_what_it_was_told() {
        let token = Token::from_str("fe.a").unwrap();
        let mut response = Response::default();
        Thing::Profile.tell(token, true, &mut response);
        Thing::Projects.tell(token, false, &mut response);
        let mut brought = HeaderMap::new();
        brought.append(COOKIE, HeaderValue::from_static("maxscale=x; odd"));
        for cookie in response.headers().get_all(SET_COOKIE) {
            let (pair, _) = cookie.to_str().unwrap().split_once(';').unwrap();
            brought.append(COOKIE, pair.parse().unwrap());
        }
        brought.append(COOKIE, HeaderValue::from_static("changed-project=none"));
        let changed = Changed::of(&brought);
        assert_eq!(
            (changed.profile, changed.projects),
            (Some(token), Some(token))
        );
        assert_eq!(changed.project, None, "no token");
    }
}
