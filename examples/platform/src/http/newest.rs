use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use axum::http::header::CACHE_CONTROL;
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::{Next, from_fn, map_response};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use maxscale_cache::Invalidated;
use maxscale_cache::http::{HttpBody, HttpCache, HttpCacheLayer, Tag};
use maxscale_core::Chain;
use maxscale_core::refusal::{Class, Refusal};
use maxscale_shard::scatter::{Cursor, ScatterError};
use serde::Deserialize;
use serde_json::{Value, json};
use tower::ServiceBuilder;

use super::App;
use super::project::shown;
use super::reply::{ApiError, User, query_error};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    limit: Option<u32>,
    after: Option<String>,
}

type Cached = Response<HttpBody<Body>>;

const CACHE_TAG: HeaderName = HeaderName::from_static("cache-tag");

const ROWS: u32 = 20;
const MOST_ROWS: u32 = 100;

/// How long a page is everybody's. Whoever changes a project drops it before.
const GOOD_FOR: &str = "s-maxage=5";

/// What each page shows.
const TAG: &str = "projects";

/// Whose a project is, it does not tell.
async fn newest(
    State(app): State<App>,
    User(_): User,
    query: Result<Query<Asked>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(asked) = query.map_err(|rejection| query_error(&rejection))?;
    let rows = asked.limit.unwrap_or(ROWS);
    if !(1..=MOST_ROWS).contains(&rows) {
        let why = format!("limit must be 1 to {MOST_ROWS}");
        return Err(ApiError::new(Refusal::of(Class::Invalid).detail(why)));
    }
    let from = asked.after.as_deref().map(str::parse::<Cursor>).transpose();
    let from = from.map_err(ScatterError::Cursor)?;
    let page = app.newest.page(rows, from.as_ref()).await?;
    for missing in &page.missing {
        tracing::warn!(error = %Chain(missing), "the newest projects are incomplete");
    }
    let complete = page.missing.is_empty();
    let body: Json<Value> = Json(json!({
        "projects": page.projects.iter().map(shown).collect::<Vec<_>>(),
        "next": page.next.map(|cursor| cursor.to_string()),
        "complete": complete,
    }));
    // What is missing now may be there for who asks next.
    let control = if complete { GOOD_FOR } else { "no-store" };
    Ok(([(CACHE_CONTROL, control), (CACHE_TAG, TAG)], body).into_response())
}

/// The pages, answered from `pages` to those who may ask.
///
/// A page is the same for all who are logged in, and for nobody else: the cache stands
/// inside of the check, and caches further out are told to ask each time, which an
/// `ETag` makes cheap.
pub(super) fn routes(pages: &HttpCache) -> Router<App> {
    let layers = ServiceBuilder::new()
        .layer(from_fn(logged_in))
        .layer(map_response(for_its_client))
        .layer(HttpCacheLayer::new(pages.clone()));
    Router::new()
        .route("/v1/projects/newest", get(newest))
        .layer(layers)
}

/// Call it after a project was created or changed, and committed.
pub(super) async fn changed(pages: &HttpCache) {
    if let Ok(tag) = Tag::new(TAG) {
        // Where that was not told, a page is old for as long as it is good.
        let _: Invalidated = pages.invalidate_tag(&tag).await;
    }
}

async fn logged_in(_: User, request: Request, next: Next) -> Response {
    next.run(request).await
}

async fn for_its_client(mut response: Cached) -> Cached {
    let headers = response.headers_mut();
    if headers.remove(CACHE_TAG).is_some() {
        let control = HeaderValue::from_static("private, no-cache");
        headers.insert(CACHE_CONTROL, control);
    }
    response
}
