//! Sessions in rows with copies in Redis, in as many processes' worth of handles as
//! a test wants.

use std::num::NonZeroU32;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use maxscale_auth::session::{
    Created, DurableSessions, Level, Methods, NewSession, RedisSessions, SecretHash, Session,
    SessionStore, SqlSessions,
};
use maxscale_core::fact::VirtualShard;
use maxscale_core::id::Id;
use maxscale_core::redis::{Command, Redis, RedisConfig, Reply};
use maxscale_shard::Engine;
use maxscale_tests::{RedisServer, eventually};

use crate::support::{Bench, LIMIT};

pub(crate) const HOUR: Duration = Duration::from_secs(3600);

pub(crate) struct Copied {
    pub(crate) bench: Bench,
    pub(crate) servers: Vec<RedisServer>,
    redis: Vec<Redis>,
}

// === impl Copied ===

impl Copied {
    pub(crate) async fn new() -> Self {
        Self::of(Bench::new(Engine::Sqlite).await, 1).await
    }

    pub(crate) async fn of(bench: Bench, servers: usize) -> Self {
        let (mut started, mut redis) = (Vec::new(), Vec::new());
        for _ in 0..servers {
            let server = RedisServer::start().await;
            redis.push(connect(&server.url()).await);
            started.push(server);
        }
        Self {
            bench,
            servers: started,
            redis,
        }
    }

    /// A handle as another process has it.
    pub(crate) fn store(&self) -> RedisSessions<SqlSessions> {
        copies(&self.bench, self.bench.rows(), self.redis.clone())
    }

    /// As [`store`](Self::store), by way of `url`.
    pub(crate) async fn store_by(&self, url: &str) -> RedisSessions<SqlSessions> {
        copies(&self.bench, self.bench.rows(), [connect(url).await])
    }

    /// A session that is stored, and copied.
    pub(crate) async fn begun(&self) -> Session {
        let session = begin(&self.bench, None, HOUR).await;
        self.copy(&self.store(), &session).await;
        session
    }

    /// Waits until there is a copy, and gives its key. Who tells of an earlier change
    /// may first drop one that is being made.
    pub(crate) async fn copy(&self, store: &impl SessionStore, session: &Session) -> String {
        let key = key(session.user);
        eventually(LIMIT, async || {
            store.load(session.user, session.id).await.unwrap();
            self.ask("HLEN", &[&key])
                .await
                .as_int()
                .is_some_and(|it| it > 1)
        })
        .await;
        key
    }

    pub(crate) async fn ask(&self, name: &'static str, args: &[&str]) -> Reply {
        ask(&self.redis[0], name, args).await
    }

    pub(crate) async fn keys(&self) -> Vec<String> {
        let keys = self.ask("KEYS", &["*"]).await.into_array().unwrap();
        keys.into_iter().map(text).collect()
    }

    /// The number that the server's own account of itself gives.
    pub(crate) async fn info(&self, section: &str, name: &str) -> u64 {
        let info = text(self.ask("INFO", &[section]).await);
        let mut values = info.lines().filter_map(|it| it.strip_prefix(name));
        let value = values.find_map(|it| it.strip_prefix(':'));
        value.map_or(0, |it| it.trim().parse().unwrap())
    }
}

/// Waits until the rows know of nothing that no copy was told: then nobody but the
/// caller looks after what he did.
pub(crate) async fn is_settled(bench: &Bench) {
    let untold = async || bench.rows().untold(None, 1).await.unwrap();
    eventually(LIMIT, async || untold().await.is_empty()).await;
}

pub(crate) async fn ask(redis: &Redis, name: &'static str, args: &[&str]) -> Reply {
    let command = Command::new(name).args(args.iter().copied());
    redis.command(command).await.unwrap()
}

/// Where the user's copy is.
pub(crate) fn key(user: Id) -> String {
    format!("maxscale:s:0:{}", URL_SAFE_NO_PAD.encode(user.as_uuid()))
}

/// What is not text is escaped.
pub(crate) fn text(reply: Reply) -> String {
    String::from_utf8_lossy(&reply.into_bytes().unwrap()).into_owned()
}

/// A handle with patience: what is claimed is not about speed.
pub(crate) async fn connect(url: &str) -> Redis {
    let redis = Redis::open(RedisConfig::new(url).unwrap().timeout(LIMIT));
    assert!(redis.wait_ready(LIMIT).await);
    redis
}

pub(crate) fn copies<D: DurableSessions>(
    bench: &Bench,
    durable: D,
    servers: impl IntoIterator<Item = Redis>,
) -> RedisSessions<D> {
    RedisSessions::builder(durable, servers)
        .clock(bench.clock.clone())
        .wait(LIMIT)
        .sweep_every(Duration::from_millis(100))
        .build()
        .unwrap()
}

/// Ids of all shards, one after the other.
pub(crate) fn draw(bench: &Bench) -> impl Fn() -> Id + use<'_> {
    let next = std::cell::Cell::new(0);
    move || {
        next.set((next.get() + 1) % bench.router().shards());
        bench.ids.draw(VirtualShard::new(next.get()))
    }
}

/// A session of `user`, or of a new one, that begins now.
pub(crate) fn session(bench: &Bench, user: Option<Id>, idle: Duration) -> Session {
    let draw = draw(bench);
    let now = bench.clock.now();
    Session {
        user: user.unwrap_or_else(&draw),
        id: draw(),
        secret_hash: SecretHash::new([1; 32]),
        created_at: now,
        last_active: now,
        authenticated_at: now,
        idle,
        ends_at: now.after(90 * 24 * HOUR),
        level: Level::Aal1,
        methods: Methods::PASSWORD,
        version: 1,
        previous: None,
        actor: None,
    }
}

/// Stores a session in the rows, of which no copy hears.
pub(crate) async fn begin(bench: &Bench, user: Option<Id>, idle: Duration) -> Session {
    let session = session(bench, user, idle);
    create(&bench.rows(), &session).await;
    session
}

pub(crate) async fn create(store: &impl SessionStore, session: &Session) {
    let new = NewSession {
        session,
        device: "",
    };
    let most = NonZeroU32::new(200).unwrap();
    let created = store.create(&new, most).await.unwrap();
    assert!(matches!(created, Created::Stored { .. }));
}

pub(crate) async fn is_there(store: &impl SessionStore, session: &Session) -> bool {
    let found = store.load(session.user, session.id).await.unwrap();
    found.is_some()
}
