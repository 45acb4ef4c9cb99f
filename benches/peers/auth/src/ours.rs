//! Our layer, over sessions that are rows in SQL and copies in Redis.

use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use axum::routing::get;
use axum::{Extension, Router};
use maxscale_auth::session::{
    Level, Methods, Proof, RedisSessions, SessionStore, Sessions, SqlSessions,
};
use maxscale_auth::{CookiePolicy, MIGRATIONS, Principal, SessionLayer};
use maxscale_cache::Hub;
use maxscale_cache::remote::RedisRemote;
use maxscale_core::BoxError;
use maxscale_core::clock::Clock;
use maxscale_core::id::IdGenerator;
use maxscale_core::keys::{KeyRing, Secret};
use maxscale_core::redis::{Redis, RedisConfig};
use maxscale_shard::fleet::NodeSpec;
use maxscale_shard::{Fleet, FleetConfig, Router as Shards};
use tempfile::TempDir;
use tokio::time::sleep;

use super::{Side, USERS};

const COOKIE: CookiePolicy = CookiePolicy::new(false);
const READY: Duration = Duration::from_secs(30);

/// Where a session is looked for first.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Kept {
    /// In Redis.
    Far,
    /// In the process, for a second.
    Near,
}

pub(super) struct Ours {
    redis: Redis,
    shards: Shards,
    ids: Arc<IdGenerator>,
    keys: Arc<KeyRing>,
    cookies: Arc<[String]>,
    _fleet: Fleet,
    _rows: TempDir,
}

// === impl Ours ===

impl Ours {
    pub(super) async fn new(url: &str) -> Result<Self, BoxError> {
        let redis = Redis::open(RedisConfig::new(url)?);
        if !redis.wait_ready(READY).await {
            return Err("redis is not ready".into());
        }
        // Requests do not come here: it is read once for each user.
        let rows = TempDir::new()?;
        let node = NodeSpec::parse(&format!("sqlite:{}/rows.db", rows.path().display()), 1)?;
        let fleet = Fleet::open(FleetConfig::new(vec![node]).migrations(MIGRATIONS)).await?;
        let shards = fleet.router().clone();
        let ids = IdGenerator::new(Clock::system(), shards.keyspace());
        let mut this = Self {
            redis,
            shards,
            ids: Arc::new(ids),
            keys: Arc::new(KeyRing::new(1, Secret::new([7; 32]))?),
            cookies: Arc::default(),
            _fleet: fleet,
            _rows: rows,
        };
        this.cookies = this.begin().await?;
        Ok(this)
    }

    /// A session for each user.
    async fn begin(&self) -> Result<Arc<[String]>, BoxError> {
        let sessions = self.sessions(Kept::Far).await?;
        let proof = Proof {
            level: Level::Aal1,
            methods: Methods::PASSWORD,
        };
        let mut cookies = Vec::new();
        for _ in 0..USERS {
            let user = self.ids.draw_anywhere(self.shards.shards());
            let token = sessions.begin(user, proof, "").await?;
            cookies.push(format!("{}={token}", COOKIE.name()));
        }
        Ok(cookies.into())
    }

    fn store(&self) -> Result<impl SessionStore + use<>, BoxError> {
        let rows = SqlSessions::new(self.shards.clone(), Clock::system());
        Ok(RedisSessions::builder(rows, [self.redis.clone()]).build()?)
    }

    async fn sessions(&self, kept: Kept) -> Result<Sessions, BoxError> {
        let mut builder = Sessions::builder(self.store()?, self.keys.clone(), self.ids.clone());
        if kept == Kept::Near {
            let remote = RedisRemote::new(self.redis.clone());
            let hub = Hub::builder().remote(remote).build();
            // While it does not hear the others nothing is kept near.
            while hub.stats().gaps == 0 {
                sleep(Duration::from_millis(5)).await;
            }
            builder = builder.near(&hub);
        }
        Ok(builder.build())
    }

    pub(super) async fn side(&self, kept: Kept) -> Result<Side, BoxError> {
        let layer = SessionLayer::new(self.sessions(kept).await?, COOKIE);
        let side = Side {
            router: Router::new().route("/", get(who)).layer(layer),
            cookies: self.cookies.clone(),
        };
        // Copied into Redis by who asks first.
        side.clone().ask_all(4 * USERS).await?;
        Ok(side)
    }
}

async fn who(principal: Option<Extension<Principal>>) -> Result<String, StatusCode> {
    let Extension(principal) = principal.ok_or(StatusCode::UNAUTHORIZED)?;
    Ok(principal.user().to_string())
}
