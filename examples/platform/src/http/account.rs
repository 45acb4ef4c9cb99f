use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::SET_COOKIE;
use axum::response::{IntoResponse, Response};
use maxscale_auth::{LoggedIn, SignedUp};
use serde::Deserialize;
use serde_json::json;

use super::App;
use super::changed::{Changed, Thing};
use super::reply::{ApiError, Body, Client, User, to_its_end};
use crate::profile::Profile;

// No `Debug`: it holds a password.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SignUp {
    email: String,
    password: String,
    name: String,
}

// No `Debug`: it holds a password.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LogIn {
    email: String,
    password: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rename {
    name: String,
}

pub(super) async fn sign_up(
    State(app): State<App>,
    Client(address): Client,
    Body(body): Body<SignUp>,
) -> Result<Response, ApiError> {
    let client = maxscale_auth::Client::new(&address);
    let started = app
        .accounts
        .sign_up(&body.email, &body.password, &body.name, &client);
    match started.await? {
        SignedUp::LoggedIn(started) => Ok(logged_in(&app, StatusCode::CREATED, &started)),
        _ => Ok(StatusCode::ACCEPTED.into_response()),
    }
}

pub(super) async fn log_in(
    State(app): State<App>,
    Client(address): Client,
    Body(body): Body<LogIn>,
) -> Result<Response, ApiError> {
    let client = maxscale_auth::Client::new(&address);
    let started = app.accounts.log_in(&body.email, &body.password, &client);
    Ok(logged_in(&app, StatusCode::OK, &started.await?))
}

pub(super) async fn log_out(
    State(app): State<App>,
    User(principal): User,
) -> Result<Response, ApiError> {
    app.accounts.log_out(&principal).await?;
    let mut response = StatusCode::NO_CONTENT.into_response();
    if let Some(cookie) = app.cookie.clear() {
        response.headers_mut().insert(SET_COOKIE, cookie);
    }
    Ok(response)
}

pub(super) async fn me(
    State(app): State<App>,
    User(principal): User,
    changed: Changed,
) -> Result<Response, ApiError> {
    let profile = app.profiles.get(principal.user(), changed.profile).await?;
    match profile {
        Some(profile) => Ok(shown(&profile).into_response()),
        None => Err(ApiError::not_found("account")),
    }
}

pub(super) async fn rename(
    State(app): State<App>,
    User(principal): User,
    Body(body): Body<Rename>,
) -> Result<Response, ApiError> {
    let (profiles, user) = (app.profiles.clone(), principal.user());
    let renamed = to_its_end(async move {
        let renamed = profiles.rename(user, &body.name).await;
        // Told also where nobody knows whether the change was made.
        let token = profiles.changed(user).await;
        renamed.map(|_| token)
    });
    let token = renamed.await??;
    let changed = Changed {
        profile: Some(token),
        ..Changed::default()
    };
    let secure = app.secure;
    let mut response = me(State(app), User(principal), changed).await?;
    Thing::Profile.tell(token, secure, &mut response);
    Ok(response)
}

fn logged_in(app: &App, status: StatusCode, started: &LoggedIn) -> Response {
    let profile = Profile::from(&started.user);
    let mut response = (status, shown(&profile)).into_response();
    if let Some(cookie) = app
        .cookie
        .set(&started.token, app.accounts.sessions().policy().absolute)
    {
        response.headers_mut().insert(SET_COOKIE, cookie);
    }
    response
}

fn shown(profile: &Profile) -> Json<serde_json::Value> {
    Json(json!({ "user": profile }))
}
