//! Tokens for programs.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::{Json, Router};
use maxscale_core::refusal::Class;
use serde::{Deserialize, Serialize};

use super::Shared;
use super::body::Body;
use super::caller::{Caller, ended};
use super::problem::Problem;
use crate::jwt::Granted;

/// What tokens are asked for by.
#[derive(Deserialize)]
#[serde(tag = "grant_type", rename_all = "snake_case", deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub(super) enum Grant {
    /// The session of the request, which ends.
    Session {},
    /// A refresh token.
    RefreshToken {
        /// The token.
        refresh_token: String,
    },
}

/// Tokens.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub(super) struct Tokens {
    /// For `Authorization: Bearer`.
    access_token: String,
    /// `Bearer`.
    token_type: &'static str,
    /// For how many seconds the access token counts.
    expires_in: u64,
    /// For the next ones. It is used once.
    refresh_token: String,
}

/// The route, if there are tokens.
pub(super) fn route(shared: &Shared) -> Router<Arc<Shared>> {
    match &shared.tokens {
        Some(_) => Router::new().route("/token", post(grant)),
        None => Router::new(),
    }
}

/// Gives an access token and a refresh token: by a session, which ends, or by a refresh
/// token.
#[cfg_attr(feature = "openapi", utoipa::path(post, path = "/token", request_body = Grant, responses(
    (status = 200, description = "Tokens", body = Tokens),
    (status = 401, description = "No session, or a refresh token that gives nothing", content_type = "application/problem+json"),
    (status = 4XX, description = "Refused", content_type = "application/problem+json"))))]
pub(super) async fn grant(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Body(body): Body<Grant>,
) -> Result<Response, Problem> {
    let (grants, client) = (&shared.tokens, caller.client());
    let grants = grants.as_ref().ok_or(Problem::of(Class::NotFound))?;
    Ok(match body {
        Grant::Session {} => {
            let granted = grants.begin(&client).await?;
            (ended(&shared), Json(Tokens::of(granted))).into_response()
        }
        Grant::RefreshToken { refresh_token } => {
            let granted = grants.refresh(&refresh_token, &client).await?;
            Json(Tokens::of(granted)).into_response()
        }
    })
}

// === impl Tokens ===

impl Tokens {
    fn of(granted: Granted) -> Self {
        Self {
            access_token: granted.access,
            token_type: "Bearer",
            expires_in: granted.lives.as_secs(),
            refresh_token: granted.refresh,
        }
    }
}
