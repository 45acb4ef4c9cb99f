use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use maxscale_core::id::Id;
use maxscale_core::refusal::{Class, Refusal};
use maxscale_shard::FreshShard;
use serde::Deserialize;
use serde_json::{Value, json};

use super::App;
use super::reply::{ApiError, Body, User, path_error};
use crate::project::Project;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Create {
    title: String,
}

const MAX_TITLE: usize = 200;

pub(super) async fn create(
    State(app): State<App>,
    User(principal): User,
    Extension(shard): Extension<FreshShard>,
    Body(body): Body<Create>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let title = body.title.trim();
    if !(1..=MAX_TITLE).contains(&title.chars().count()) || title.contains(char::is_control) {
        let why =
            format!("the title must have 1 to {MAX_TITLE} characters and no control characters");
        return Err(ApiError::new(Refusal::of(Class::Unprocessable).detail(why)));
    }
    let project = app.projects.create(&shard, principal.user(), title).await?;
    Ok((
        StatusCode::CREATED,
        Json(json!({ "project": shown(&project) })),
    ))
}

pub(super) async fn list(
    State(app): State<App>,
    User(principal): User,
    Extension(shard): Extension<FreshShard>,
) -> Result<Json<Value>, ApiError> {
    let projects = app.projects.list(&shard, principal.user()).await?;
    let projects: Vec<Value> = projects.iter().map(shown).collect();
    Ok(Json(json!({ "projects": projects })))
}

pub(super) async fn read(
    State(app): State<App>,
    User(principal): User,
    Extension(shard): Extension<FreshShard>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, ApiError> {
    let Path(id) = path.map_err(path_error)?;
    let project = owned(&app, &shard, principal.user(), &id).await?;
    Ok(Json(json!({ "project": shown(&project) })))
}

/// The project that `id` names, if `user` owns it; 404 in any other case.
pub(super) async fn owned(
    app: &App,
    shard: &FreshShard,
    user: Id,
    id: &str,
) -> Result<Project, ApiError> {
    let missing = || ApiError::not_found("project");
    let id: Id = id.parse().map_err(|_| missing())?;
    let project = app.projects.find(shard, user, id).await?;
    project.ok_or_else(missing)
}

pub(super) fn shown(project: &Project) -> Value {
    json!({
        "id": project.id.to_string(),
        "title": project.title,
        "created_at": project.created_at.as_millis(),
    })
}
