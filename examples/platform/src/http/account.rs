use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::SET_COOKIE;
use axum::response::{IntoResponse, Response};
use maxscale_auth::{AuthError, Email, LoggedIn};
use maxscale_core::refusal::{Class, Refusal};
use serde::Deserialize;
use serde_json::json;
use tracing::Instrument as _;

use super::App;
use super::reply::{ApiError, Body, Client, User};
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
    Body(body): Body<SignUp>,
) -> Result<Response, ApiError> {
    let started = app
        .accounts
        .sign_up(&body.email, &body.password, &body.name);
    Ok(logged_in(&app, StatusCode::CREATED, &started.await?))
}

pub(super) async fn log_in(
    State(app): State<App>,
    Client(client): Client,
    Body(body): Body<LogIn>,
) -> Result<Response, ApiError> {
    // What was typed, whether there is such an account or not.
    let account = Email::parse(&body.email);
    let account = account.as_ref().map_or(&*body.email, Email::as_str);
    let attempt = app.attempts.begin(account, &client).await?;
    match app.accounts.log_in(&body.email, &body.password).await {
        Ok(started) => {
            attempt.succeeded().await;
            Ok(logged_in(&app, StatusCode::OK, &started))
        }
        Err(error) => {
            match &error {
                AuthError::Credentials => drop(attempt.failed().await),
                _ => attempt.withdrawn().await,
            }
            Err(error.into())
        }
    }
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
) -> Result<Response, ApiError> {
    let profile = app.profiles.get(principal.user()).await?;
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
    let (accounts, profiles, user) = (app.accounts.clone(), app.profiles.clone(), principal.user());
    // A task of its own: neither a deadline nor a client that goes away comes
    // between the change and its news, which are told also where nobody knows
    // whether the change was made.
    let renamed = async move {
        let renamed = accounts.rename(user, &body.name).await;
        profiles.changed(user).await;
        renamed
    };
    let renamed = tokio::spawn(renamed.in_current_span());
    renamed
        .await
        .map_err(|_| ApiError::new(Refusal::of(Class::Internal)))??;
    me(State(app), User(principal)).await
}

fn logged_in(app: &App, status: StatusCode, started: &LoggedIn) -> Response {
    let profile = Profile::from(&started.user);
    let mut response = (status, shown(&profile)).into_response();
    if let Some(cookie) = app
        .cookie
        .set(&started.token, maxscale_auth::session::ABSOLUTE)
    {
        response.headers_mut().insert(SET_COOKIE, cookie);
    }
    response
}

fn shown(profile: &Profile) -> Json<serde_json::Value> {
    Json(json!({ "user": profile }))
}
