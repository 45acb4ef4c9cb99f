//! The platform over HTTP: routes, bodies, and one form of error.

mod account;
mod accounts;
mod changed;
mod events;
mod linger;
mod newest;
mod project;
mod reply;
mod track;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use maxscale_auth::Accounts;
use maxscale_cache::http::HttpCache;
use maxscale_queue::Queue;

use crate::newest::Newest;
use crate::objects::Objects;
use crate::profile::Profiles;
use crate::project::Projects;
use crate::track::Tracks;

pub(crate) use accounts::{account_routes, csrf, is_attempt, link_paths};
pub(crate) use events::is_stream;
pub use linger::linger;
pub use reply::{ApiError, render};

/// What handlers work with. Cheap to clone.
#[derive(Clone, Debug)]
pub struct App(Arc<Parts>);

/// The parts of an [`App`].
#[derive(Debug)]
pub struct Parts {
    /// Accounts and sessions.
    pub accounts: Accounts,
    /// Profiles, through the cache.
    pub profiles: Profiles,
    /// Projects, through the cache.
    pub projects: Projects,
    /// The newest projects of all users.
    pub newest: Newest,
    /// The pages that are the same for all who are logged in.
    pub pages: HttpCache,
    /// Tracks.
    pub tracks: Tracks,
    /// The state of jobs.
    pub queue: Queue,
    /// Uploaded files.
    pub objects: Objects,
    /// Whether cookies are for TLS alone.
    pub secure: bool,
    /// The largest upload in bytes.
    pub upload_limit: u64,
}

/// The largest JSON body.
const JSON_LIMIT: usize = 64 * 1024;

// === impl App ===

impl App {
    /// An app of these parts.
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }
}

impl std::ops::Deref for App {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

/// Everything but uploads, and what the auth crate offers.
pub fn routes(app: &App) -> Router<App> {
    newest::routes(&app.pages)
        .route("/v1/me", get(account::me).patch(account::rename))
        .route("/v1/projects", get(project::list).post(project::create))
        .route(
            "/v1/projects/{project}",
            get(project::read).patch(project::rename),
        )
        .route("/v1/projects/{project}/tracks", get(track::list))
        .route("/v1/projects/{project}/tracks/{track}", get(track::read))
        .route(
            "/v1/projects/{project}/tracks/{track}/events",
            get(events::watch),
        )
        .layer(DefaultBodyLimit::max(JSON_LIMIT))
}

/// Uploads, which may take longer than other requests.
pub fn upload_routes() -> Router<App> {
    Router::new()
        .route("/v1/projects/{project}/tracks", post(track::upload))
        // The handler counts what it stores.
        .layer(DefaultBodyLimit::disable())
}
