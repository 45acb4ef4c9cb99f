//! tower-sessions on its store for Redis, with a user in each session.

use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use maxscale_core::BoxError;
use tower_sessions::cookie::time::Duration;
use tower_sessions::{Expiry, Session, SessionManagerLayer};
use tower_sessions_redis_store::RedisStore;
use tower_sessions_redis_store::fred::prelude::{Builder, ClientLike as _, Config, Pool};

use super::{Side, USERS};

const KEY: &str = "user";

/// As long as ours last without a request.
const IDLE: Expiry = Expiry::OnInactivity(Duration::days(30));

pub(super) struct Theirs {
    store: RedisStore<Pool>,
    cookies: Arc<[String]>,
}

// === impl Theirs ===

impl Theirs {
    pub(super) async fn new(url: &str) -> Result<Self, BoxError> {
        let pool = Builder::from_config(Config::from_url(url)?).build_pool(1)?;
        pool.init().await?;
        let store = RedisStore::new(pool);
        let mut cookies = Vec::new();
        for n in 0..USERS {
            let session = Session::new(None, Arc::new(store.clone()), Some(IDLE));
            session.insert(KEY, format!("user-{n}")).await?;
            session.save().await?;
            let id = session.id().ok_or("a session without an id")?;
            cookies.push(format!("id={id}"));
        }
        Ok(Self {
            store,
            cookies: cookies.into(),
        })
    }

    pub(super) fn side(&self, always_save: bool) -> Side {
        let layer = SessionManagerLayer::new(self.store.clone())
            .with_expiry(IDLE)
            .with_always_save(always_save);
        Side {
            router: Router::new().route("/", get(who)).layer(layer),
            cookies: self.cookies.clone(),
        }
    }
}

async fn who(session: Session) -> Result<String, StatusCode> {
    let user = session.get(KEY).await;
    let user = user.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    user.ok_or(StatusCode::UNAUTHORIZED)
}
