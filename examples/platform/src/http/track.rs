use axum::Json;
use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, Request, State};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, stream};
use maxscale_core::id::Id;
use maxscale_core::refusal::{Class, Refusal};
use maxscale_queue::{Job as _, JobState};
use serde::Deserialize;
use serde_json::{Value, json};

use super::App;
use super::changed::Mine;
use super::project::owned;
use super::reply::{ApiError, User, path_error, query_error};
use crate::audio::{self, AudioError, SNIFF_BYTES};
use crate::measure::Measure;
use crate::objects::{ObjectsError, Stored};
use crate::sweep;
use crate::track::{self, Track};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Upload {
    name: Option<String>,
}

const TYPES: [&str; 4] = ["audio/wav", "audio/x-wav", "audio/wave", "audio/vnd.wave"];
const MAX_NAME: usize = 200;

pub(super) async fn upload(
    State(app): State<App>,
    User(principal): User,
    mine: Mine,
    path: Result<Path<String>, PathRejection>,
    query: Result<Query<Upload>, QueryRejection>,
    request: Request,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let Path(project) = path.map_err(path_error)?;
    let Query(query) = query.map_err(|rejection| query_error(&rejection))?;
    let name = checked_name(query.name.as_deref().unwrap_or("untitled.wav"))?;
    check_headers(&app, &request)?;
    let user = principal.user();
    let project = owned(&app, &mine, user, &project).await?;

    let track = app.tracks.draw(user)?;
    // Stored first: a row never names a file that is not there.
    let key = sweep::key(user, project.id, track);
    let stored = store(&app, &key, request.into_body()).await?;
    let upload = track::Upload {
        user,
        project: project.id,
        track,
        name: &name,
        stored: &stored,
    };
    let job = app.tracks.create(mine.shard.freshness(), upload).await?;
    let body = json!({ "track": {
        "id": track.to_string(),
        "name": name,
        "state": "queued",
        "job": job.to_string(),
    }});
    Ok((StatusCode::ACCEPTED, Json(body)))
}

pub(super) async fn read(
    State(app): State<App>,
    User(principal): User,
    mine: Mine,
    path: Result<Path<(String, String)>, PathRejection>,
) -> Result<Json<Value>, ApiError> {
    let Path((project, track)) = path.map_err(path_error)?;
    let user = principal.user();
    let project = owned(&app, &mine, user, &project).await?;
    let missing = || ApiError::not_found("track");
    let track: Id = track.parse().map_err(|_| missing())?;
    let track = app
        .tracks
        .see(&mine.shard, project.id, track)
        .await?
        .ok_or_else(missing)?;
    Ok(Json(json!({ "track": shown(&app, user, &track).await? })))
}

pub(super) async fn list(
    State(app): State<App>,
    User(principal): User,
    mine: Mine,
    path: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, ApiError> {
    let Path(project) = path.map_err(path_error)?;
    let user = principal.user();
    let project = owned(&app, &mine, user, &project).await?;
    let mut tracks = Vec::new();
    for track in app.tracks.list(&mine.shard, project.id).await? {
        tracks.push(shown(&app, user, &track).await?);
    }
    Ok(Json(json!({ "tracks": tracks })))
}

fn check_headers(app: &App, request: &Request) -> Result<(), ApiError> {
    let header = |name| {
        request
            .headers()
            .get(name)
            .and_then(|value| value.to_str().ok())
    };
    let kind = header(CONTENT_TYPE).unwrap_or_default();
    let kind = kind
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    if !TYPES.contains(&kind.as_str()) {
        let why = "the content type must be audio/wav";
        return Err(ApiError::new(
            Refusal::of(Class::UnsupportedMedia).detail(why),
        ));
    }
    let length: Option<u64> = header(CONTENT_LENGTH).and_then(|text| text.parse().ok());
    if length.is_some_and(|length| length > app.upload_limit) {
        let limit = app.upload_limit;
        return Err(ObjectsError::TooLarge { limit }.into());
    }
    Ok(())
}

async fn store(app: &App, key: &str, body: Body) -> Result<Stored, ApiError> {
    let mut body = body.into_data_stream();
    let mut start = BytesMut::new();
    while start.len() < SNIFF_BYTES {
        match body.next().await {
            Some(Ok(data)) => start.extend_from_slice(&data),
            Some(Err(_)) | None => break,
        }
    }
    audio::sniff(&start).map_err(|error: AudioError| ApiError::from(error))?;
    let start = stream::iter([Ok::<Bytes, axum::Error>(start.freeze())]);
    let stored = app
        .objects
        .put(key, start.chain(body), app.upload_limit)
        .await?;
    Ok(stored)
}

const GAVE_UP: &str = "it could not be measured, and it was tried often";

pub(super) async fn shown(app: &App, user: Id, track: &Track) -> Result<Value, ApiError> {
    let mut body = json!({ "id": track.id.to_string(), "name": track.name });
    if let Some(measured) = &track.measured {
        body["state"] = "done".into();
        body["duration_s"] = json!(measured.duration_s);
        body["peak_dbfs"] = json!(measured.peak_dbfs);
        body["loudness_lufs"] = json!(measured.loudness_lufs);
        body["waveform"] = measured
            .waveform
            .iter()
            .map(|b| json!(b.cast_signed()))
            .collect();
        return Ok(body);
    }
    let job = app.queue.status_for(user, track.job.into()).await?;
    let (state, reason) = match job {
        // What used up the last attempt was not the file: it tells of our insides.
        Some(job) if job.state == JobState::Dead && job.attempt >= Measure::MAX_ATTEMPTS => {
            ("failed", Some(GAVE_UP.to_owned()))
        }
        Some(job) if job.state == JobState::Dead => ("failed", job.last_error),
        _ => ("queued", None),
    };
    body["state"] = state.into();
    if let Some(reason) = reason {
        body["reason"] = reason.into();
    }
    Ok(body)
}

fn checked_name(name: &str) -> Result<String, ApiError> {
    let name = name.trim();
    if (1..=MAX_NAME).contains(&name.chars().count()) && !name.contains(char::is_control) {
        return Ok(name.to_owned());
    }
    let why = format!("the name must have 1 to {MAX_NAME} characters and no control characters");
    Err(ApiError::new(Refusal::of(Class::Unprocessable).detail(why)))
}
