//! The caller's API keys.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use http::StatusCode;
use maxscale_core::limit::Quota;
use maxscale_core::refusal::Class;
use serde::{Deserialize, Serialize};

use super::Shared;
use super::body::{Body, id};
use super::problem::Problem;
use crate::api_key::{ApiKey, ApiKeyError, ApiKeys, MadeApiKey, NewApiKey};
use crate::principal::Principal;

type Answer = Result<Response, Problem>;

/// To have a key.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub(super) struct MakeKey {
    /// How its owner calls it.
    name: String,
    /// What it is for.
    scopes: Vec<String>,
    /// For how many seconds it lives; 90 days if nothing is said.
    expires_in: Option<u64>,
    /// How many requests may be made with it, if there is a bound.
    quota: Option<KeyQuota>,
}

/// Requests in any window.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub(super) struct KeyQuota {
    /// How many.
    requests: u32,
    /// In how many seconds.
    seconds: u64,
}

/// To exchange a key for the next one.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub(super) struct RotateKey {
    /// For how many seconds it goes on beside the next one; a day if nothing is said.
    overlap: Option<u64>,
}

/// One of the caller's keys.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub(super) struct OneKey {
    /// Its id.
    id: String,
    /// The id of the key that it and those before it began with.
    lineage: String,
    /// How its owner calls it.
    name: String,
    /// What it is for.
    scopes: Vec<String>,
    /// How many requests may be made with it, if there is a bound.
    quota: Option<KeyQuota>,
    /// When it was made, in milliseconds since 1970.
    created_at: u64,
    /// When it ends, in milliseconds since 1970.
    expires_at: u64,
    /// Its last request, as far as it was written, in milliseconds since 1970.
    used_at: Option<u64>,
}

/// A key that was just made.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub(super) struct MadeKey {
    /// For `Authorization: Bearer`. It is shown once.
    key: String,
    /// What is known of it.
    #[serde(flatten)]
    shown: OneKey,
}

/// The routes, if there are keys.
pub(super) fn routes(shared: &Shared) -> Router<Arc<Shared>> {
    match &shared.keys {
        Some(_) => Router::new()
            .route("/api-keys", get(list).post(make))
            .route("/api-keys/{id}", delete(revoke))
            .route("/api-keys/{id}/rotate", post(rotate)),
        None => Router::new(),
    }
}

/// The caller's keys that live, the newest first.
#[cfg_attr(feature = "openapi", utoipa::path(get, path = "/api-keys", responses(
    (status = 200, description = "The keys", body = [OneKey]),
    (status = 401, description = "Nobody is logged in", content_type = "application/problem+json"))))]
pub(super) async fn list(State(shared): State<Arc<Shared>>, principal: Principal) -> Answer {
    let listed = keys(&shared)?.list(principal.user()).await?;
    let shown: Vec<OneKey> = listed.iter().map(OneKey::of).collect();
    Ok(Json(shown).into_response())
}

/// Makes a key for the caller. It needs a fresh proof.
#[cfg_attr(feature = "openapi", utoipa::path(post, path = "/api-keys", request_body = MakeKey, responses(
    (status = 201, description = "The key", body = MadeKey),
    (status = 403, description = "The caller's proof is too old", content_type = "application/problem+json"),
    (status = 4XX, description = "Refused", content_type = "application/problem+json"))))]
pub(super) async fn make(
    State(shared): State<Arc<Shared>>,
    principal: Principal,
    Body(body): Body<MakeKey>,
) -> Answer {
    let keys = keys(&shared)?;
    let scopes = keys.scopes_of(body.scopes.iter().map(String::as_str))?;
    let life = body.expires_in.map(Duration::from_secs);
    let mut new = NewApiKey::new(&body.name, scopes).lives(life.unwrap_or(ApiKeys::DEFAULT_LIFE));
    if let Some(KeyQuota { requests, seconds }) = body.quota {
        let quota = Quota::new(requests, Duration::from_secs(seconds));
        new = new.quota(quota.map_err(ApiKeyError::Bound)?);
    }
    let made = keys.create(&principal, &new).await?;
    Ok((StatusCode::CREATED, Json(MadeKey::of(&made))).into_response())
}

/// Makes a key that replaces one of the caller's. It needs a fresh proof.
#[cfg_attr(feature = "openapi", utoipa::path(post, path = "/api-keys/{id}/rotate", request_body = RotateKey,
    params(("id" = String, Path, description = "The key's id")), responses(
    (status = 201, description = "The key that replaces it", body = MadeKey),
    (status = 403, description = "The caller's proof is too old", content_type = "application/problem+json"),
    (status = 404, description = "The caller has no such key", content_type = "application/problem+json"),
    (status = 4XX, description = "Refused", content_type = "application/problem+json"))))]
pub(super) async fn rotate(
    State(shared): State<Arc<Shared>>,
    principal: Principal,
    Path(key): Path<String>,
    Body(body): Body<RotateKey>,
) -> Answer {
    let overlap = body.overlap.map(Duration::from_secs);
    let overlap = overlap.unwrap_or(ApiKeys::DEFAULT_OVERLAP);
    let made = keys(&shared)?.rotate(&principal, id(&key)?, overlap);
    Ok((StatusCode::CREATED, Json(MadeKey::of(&made.await?))).into_response())
}

/// Ends one of the caller's keys.
#[cfg_attr(feature = "openapi", utoipa::path(delete, path = "/api-keys/{id}",
    params(("id" = String, Path, description = "The key's id")), responses(
    (status = 204, description = "It is over"),
    (status = 401, description = "Nobody is logged in", content_type = "application/problem+json"),
    (status = 404, description = "The caller has no such key", content_type = "application/problem+json"))))]
pub(super) async fn revoke(
    State(shared): State<Arc<Shared>>,
    principal: Principal,
    Path(key): Path<String>,
) -> Answer {
    let ended = keys(&shared)?.revoke(principal.user(), id(&key)?);
    ended.await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn keys(shared: &Shared) -> Result<&ApiKeys, Problem> {
    let keys = shared.keys.as_ref();
    keys.ok_or_else(|| Problem::of(Class::NotFound))
}

// === impl OneKey ===

impl OneKey {
    fn of(key: &ApiKey) -> Self {
        Self {
            id: key.id.to_string(),
            lineage: key.lineage.to_string(),
            name: key.name.clone(),
            scopes: key.scopes.names().map(str::to_owned).collect(),
            quota: key.quota.as_ref().map(|quota| KeyQuota {
                requests: quota.limit(),
                seconds: quota.window().as_secs(),
            }),
            created_at: key.created_at.as_millis(),
            expires_at: key.expires_at.as_millis(),
            used_at: key.used_at.map(|at| at.as_millis()),
        }
    }
}

// === impl MadeKey ===

impl MadeKey {
    fn of(made: &MadeApiKey) -> Self {
        Self {
            key: made.text.clone(),
            shown: OneKey::of(&made.key),
        }
    }
}
