//! Who is logged in as an argument of axum's handlers.
//!
//! A [`Principal`] answers 401 where nobody is logged in, an `Option<Principal>` is
//! `None` then, and [`Allowed`] answers with what its guard misses. Both of the former
//! refuse an API key: what is for its scopes says so by a guard.

use axum::body::Body;
use axum::extract::{FromRequestParts, OptionalFromRequestParts};
use axum::response::Response;
use http::Request;
use http::request::Parts;
use maxscale_core::refusal::Refusal;

use crate::guard::{Allowed, Demand, Denied, Guard, principal, tell};
use crate::principal::Principal;

impl<S: Sync> FromRequestParts<S> for Principal {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Response> {
        let found = principal(&parts.extensions).and_then(|found| {
            Guard::logged_in().check(found)?;
            found.cloned().ok_or(Denied::NotLoggedIn)
        });
        found.map_err(|denied| refuse(denied, parts))
    }
}

impl<S: Sync> OptionalFromRequestParts<S> for Principal {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Response> {
        let found = principal(&parts.extensions).and_then(|found| match found {
            Some(found) => Guard::logged_in()
                .check(Some(found))
                .map(|()| Some(found.clone())),
            None => Ok(None),
        });
        found.map_err(|denied| refuse(denied, parts))
    }
}

impl<S: Sync, D: Demand> FromRequestParts<S> for Allowed<D> {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Response> {
        let allowed = principal(&parts.extensions).and_then(Self::check);
        allowed.map_err(|denied| refuse(denied, parts))
    }
}

fn refuse(denied: Denied, parts: &Parts) -> Response {
    tell(&denied, &parts.extensions);
    let request = Request::from_parts(parts.clone(), ());
    let (status, headers, body) = Refusal::new(&denied).into_parts(&request);
    let mut response = Response::new(body.map_or_else(Body::empty, Body::from));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}
