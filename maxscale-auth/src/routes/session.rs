//! The caller's sessions.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use maxscale_core::id::Id;
use maxscale_core::refusal::Class;
use serde::Serialize;

use super::Shared;
use super::body::id;
use super::caller::{Caller, ended};
use super::flow::Shown;
use super::problem::Problem;
use crate::error::AuthError;
use crate::principal::Principal;
use crate::session::{Listed, Which, Why};

type Answer = Result<Response, Problem>;

/// The session of a request.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub(super) struct Current {
    /// Whose it is.
    user: Shown,
    /// Its id.
    session: String,
    /// How sure it is that it is the user: 1 for one factor, 2 for two.
    level: u8,
    /// The user's roles.
    roles: Vec<String>,
    /// When the user last proved who he is, in milliseconds since 1970.
    authenticated_at: u64,
    /// Who acts in the user's name, if it is not the user.
    actor: Option<String>,
}

/// One of the caller's sessions.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub(super) struct One {
    /// Its id.
    id: String,
    /// Whether it is the one that asks.
    current: bool,
    /// How its device calls itself.
    device: String,
    /// When it began, in milliseconds since 1970.
    created_at: u64,
    /// Its last request, as far as it was written, in milliseconds since 1970.
    last_active: u64,
}

/// Who is logged in.
#[cfg_attr(feature = "openapi", utoipa::path(get, path = "/session", responses(
    (status = 200, description = "The session", body = Current),
    (status = 401, description = "Nobody is logged in", content_type = "application/problem+json"))))]
pub(super) async fn show(State(shared): State<Arc<Shared>>, principal: Principal) -> Answer {
    let user = shared.accounts.user(principal.user()).await?;
    let current = Current {
        user: Shown::of(&user.ok_or(AuthError::NotLoggedIn)?),
        session: principal.session().to_string(),
        level: principal.level().number(),
        roles: principal.roles().names().map(str::to_owned).collect(),
        authenticated_at: principal.authenticated_at().as_millis(),
        actor: principal.actor().map(|actor| actor.to_string()),
    };
    Ok(Json(current).into_response())
}

/// The caller's sessions, the newest first.
#[cfg_attr(feature = "openapi", utoipa::path(get, path = "/sessions", responses(
    (status = 200, description = "The sessions", body = [One]),
    (status = 401, description = "Nobody is logged in", content_type = "application/problem+json"))))]
pub(super) async fn list(State(shared): State<Arc<Shared>>, principal: Principal) -> Answer {
    let listed = shared.accounts.sessions().list(principal.user()).await?;
    let own = principal.session();
    let shown: Vec<One> = listed.iter().map(|it| One::of(it, own)).collect();
    Ok(Json(shown).into_response())
}

/// Ends one of the caller's sessions.
#[cfg_attr(feature = "openapi", utoipa::path(delete, path = "/sessions/{id}",
    params(("id" = String, Path, description = "The session's id")), responses(
    (status = 204, description = "It is over"),
    (status = 401, description = "Nobody is logged in", content_type = "application/problem+json"),
    (status = 404, description = "The caller has no such session", content_type = "application/problem+json"))))]
pub(super) async fn end(
    State(shared): State<Arc<Shared>>,
    principal: Principal,
    Path(id): Path<String>,
) -> Answer {
    let ending = Which::One(self::id(&id)?);
    let ended = shared
        .accounts
        .sessions()
        .revoke(principal.user(), ending, Why::LoggedOut);
    match ended.await?.ended.is_empty() {
        true => Err(Problem::of(Class::NotFound)),
        false => Ok(StatusCode::NO_CONTENT.into_response()),
    }
}

/// Ends the session of the request, if it has one, and removes the cookie.
#[cfg_attr(feature = "openapi", utoipa::path(post, path = "/logout", responses(
    (status = 204, description = "Nobody is logged in any more"))))]
pub(super) async fn log_out(State(shared): State<Arc<Shared>>, caller: Caller) -> Answer {
    if let Some(principal) = &caller.principal {
        shared.accounts.log_out(principal).await?;
    }
    Ok((StatusCode::NO_CONTENT, ended(&shared)).into_response())
}

/// Ends all of the caller's sessions, and removes the cookie.
#[cfg_attr(feature = "openapi", utoipa::path(post, path = "/logout/all", responses(
    (status = 204, description = "All sessions are over"),
    (status = 401, description = "Nobody is logged in", content_type = "application/problem+json"))))]
pub(super) async fn log_out_all(State(shared): State<Arc<Shared>>, principal: Principal) -> Answer {
    let sessions = shared.accounts.sessions();
    let revoked = sessions.revoke(principal.user(), Which::All, Why::LoggedOut);
    revoked.await?;
    Ok((StatusCode::NO_CONTENT, ended(&shared)).into_response())
}

// === impl One ===

impl One {
    fn of(listed: &Listed, own: Id) -> Self {
        let session = &listed.session;
        Self {
            id: session.id.to_string(),
            current: session.id == own,
            device: listed.device.clone(),
            created_at: session.created_at.as_millis(),
            last_active: session.last_active.as_millis(),
        }
    }
}
