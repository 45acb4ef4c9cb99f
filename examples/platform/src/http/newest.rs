use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use maxscale_core::Chain;
use maxscale_core::refusal::{Class, Refusal};
use maxscale_shard::scatter::{Cursor, ScatterError};
use serde::Deserialize;
use serde_json::{Value, json};

use super::App;
use super::project::shown;
use super::reply::{ApiError, User, query_error};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    limit: Option<u32>,
    after: Option<String>,
}

const ROWS: u32 = 20;
const MOST_ROWS: u32 = 100;

/// Whose a project is, it does not tell.
pub(super) async fn newest(
    State(app): State<App>,
    User(_): User,
    query: Result<Query<Asked>, QueryRejection>,
) -> Result<Json<Value>, ApiError> {
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
    Ok(Json(json!({
        "projects": page.projects.iter().map(shown).collect::<Vec<_>>(),
        "next": page.next.map(|cursor| cursor.to_string()),
        "complete": page.missing.is_empty(),
    })))
}
