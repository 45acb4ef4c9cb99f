use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use maxscale_core::id::Id;
use maxscale_core::refusal::{Class, Refusal};
use maxscale_shard::FreshShard;
use serde::Deserialize;
use serde_json::{Value, json};

use super::App;
use super::changed::{Mine, Thing};
use super::newest;
use super::reply::{ApiError, Body, User, path_error, to_its_end};
use crate::project::Project;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Titled {
    title: String,
}

const MAX_TITLE: usize = 200;

pub(super) async fn create(
    State(app): State<App>,
    User(principal): User,
    Extension(shard): Extension<FreshShard>,
    Body(body): Body<Titled>,
) -> Result<Response, ApiError> {
    let title = checked_title(&body.title)?;
    let (parts, user) = (app.clone(), principal.user());
    let created = to_its_end(async move {
        let made = parts.projects.create(&shard, user, &title).await;
        // Told also where nobody knows whether it was made.
        let told = parts.projects.created(user);
        let (token, ()) = tokio::join!(told, newest::changed(&parts.pages));
        made.map(|project| (project, token))
    });
    let (project, token) = created.await??;
    let body = Json(json!({ "project": shown(&project) }));
    let mut response = (StatusCode::CREATED, body).into_response();
    Thing::Projects.tell(token, app.secure, &mut response);
    Ok(response)
}

pub(super) async fn rename(
    State(app): State<App>,
    User(principal): User,
    Extension(shard): Extension<FreshShard>,
    path: Result<Path<String>, PathRejection>,
    Body(body): Body<Titled>,
) -> Result<Response, ApiError> {
    let Path(id) = path.map_err(path_error)?;
    let missing = || ApiError::not_found("project");
    let id: Id = id.parse().map_err(|_| missing())?;
    let title = checked_title(&body.title)?;
    let (parts, user, at) = (app.clone(), principal.user(), shard.clone());
    let renamed = to_its_end(async move {
        let (projects, queue) = (&parts.projects, &parts.queue);
        let done = projects.rename(&at, queue, (user, id), &title).await;
        let told = projects.changed(user, id);
        let (tokens, ()) = tokio::join!(told, newest::changed(&parts.pages));
        done.map(|done| done.then_some(tokens))
    });
    let tokens = renamed.await??.ok_or_else(missing)?;
    let found = app.projects.find(&shard, (user, id), Some(tokens.project));
    let project = found.await?.ok_or_else(missing)?;
    let body = Json(json!({ "project": shown(&project) }));
    let mut response = body.into_response();
    Thing::Project(id).tell(tokens.project, app.secure, &mut response);
    Thing::Projects.tell(tokens.list, app.secure, &mut response);
    Ok(response)
}

pub(super) async fn list(
    State(app): State<App>,
    User(principal): User,
    mine: Mine,
) -> Result<Json<Value>, ApiError> {
    let projects = app
        .projects
        .list(&mine.shard, principal.user(), mine.changed.projects);
    let projects: Vec<Value> = projects.await?.iter().map(shown).collect();
    Ok(Json(json!({ "projects": projects })))
}

pub(super) async fn read(
    State(app): State<App>,
    User(principal): User,
    mine: Mine,
    path: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, ApiError> {
    let Path(id) = path.map_err(path_error)?;
    let project = owned(&app, &mine, principal.user(), &id).await?;
    Ok(Json(json!({ "project": shown(&project) })))
}

/// The project that `id` names, if `user` owns it; 404 in any other case.
pub(super) async fn owned(
    app: &App,
    mine: &Mine,
    user: Id,
    id: &str,
) -> Result<Arc<Project>, ApiError> {
    let missing = || ApiError::not_found("project");
    let id: Id = id.parse().map_err(|_| missing())?;
    let project = app
        .projects
        .find(&mine.shard, (user, id), mine.changed.project)
        .await?;
    project.ok_or_else(missing)
}

pub(super) fn shown(project: &Project) -> Value {
    json!({
        "id": project.id.to_string(),
        "title": project.title,
        "created_at": project.created_at.as_millis(),
    })
}

fn checked_title(title: &str) -> Result<String, ApiError> {
    let title = title.trim();
    if (1..=MAX_TITLE).contains(&title.chars().count()) && !title.contains(char::is_control) {
        return Ok(title.to_owned());
    }
    let why = format!("the title must have 1 to {MAX_TITLE} characters and no control characters");
    Err(ApiError::new(Refusal::of(Class::Unprocessable).detail(why)))
}
