//! What users see of their accounts, and the name that they change.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::App;
use super::changed::{Changed, Thing};
use super::reply::{ApiError, Body, User, to_its_end};
use crate::profile::Profile;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rename {
    name: String,
}

/// As the routes of accounts show a user.
#[derive(Debug, Serialize)]
struct Shown<'a> {
    user: &'a Profile,
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

const fn shown(user: &Profile) -> Json<Shown<'_>> {
    Json(Shown { user })
}
