//! A fleet of two nodes with accounts on it, and a request through the session layer.

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use http::{Request, Response, header};
use maxscale_auth::session::{SessionStore, Sessions, SqlSessions};
use maxscale_auth::{
    Accounts, AccountsBuilder, AuthError, Client, CookiePolicy, LoggedIn, MIGRATIONS, PasswordPool,
    PasswordPoolConfig, Principal, SessionLayer, SignUps, SignedUp,
};
use maxscale_core::clock::{Clock, ManualTime, Timestamp};
use maxscale_core::fact::Subject;
use maxscale_core::id::{IdGenerator, KeyspaceTag};
use maxscale_core::keys::{KeyRing, Secret};
use maxscale_core::refusal::ReplyBody;
use maxscale_shard::{DatabaseOptions, Engine, Fleet, FleetConfig, Router, Sql, fleet::NodeSpec};
use maxscale_tests::PostgresServer;
use tempfile::TempDir;
use tower::{Layer, Service, ServiceExt, service_fn};

use crate::letters::{Letters, build};

/// Runs each `async fn(Bench)` once per engine.
macro_rules! on_both {
    ($($name:ident),+ $(,)?) => {
        mod on_sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                use crate::support::Bench;
                super::$name(Bench::new(maxscale_shard::Engine::Sqlite).await).await;
            })+
        }
        mod on_postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                use crate::support::Bench;
                super::$name(Bench::new(maxscale_shard::Engine::Postgres).await).await;
            })+
        }
    };
}

/// How long what has to happen may take on a machine that is busy with others.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);
pub(crate) const PASSWORD: &str = "correct horse battery";

pub(crate) struct Bench {
    pub(crate) fleet: Fleet,
    pub(crate) nodes: Vec<NodeSpec>,
    pub(crate) urls: Vec<String>,
    pub(crate) passwords: PasswordPool,
    pub(crate) accounts: OpenAccounts,
    pub(crate) letters: Letters,
    pub(crate) keys: Arc<KeyRing>,
    pub(crate) ids: Arc<IdGenerator>,
    pub(crate) clock: Clock,
    pub(crate) time: ManualTime,
    _folder: Option<TempDir>,
    _databases: Vec<maxscale_tests::Database>,
}

/// What a test told the program that it started.
#[expect(clippy::disallowed_methods, reason = "how a test tells its program")]
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

pub(crate) fn nodes_of(urls: &[String]) -> Vec<NodeSpec> {
    let nodes = (1..).zip(urls);
    let parsed = nodes.map(|(at, url)| NodeSpec::parse(url, at).unwrap());
    parsed.collect()
}

/// The fleet of these nodes, patient as tests have to be.
pub(crate) async fn open(nodes: Vec<NodeSpec>) -> Fleet {
    let mut options = DatabaseOptions::default();
    options.connections = 6;
    options.acquire_timeout = LIMIT;
    options.lock_timeout = LIMIT;
    options.statement_timeout = LIMIT;
    let config = FleetConfig::new(nodes)
        .shards(16)
        .options(options)
        .migrations(MIGRATIONS);
    Fleet::open(config).await.unwrap()
}

/// Accounts with open sign-ups; each call comes from another address.
#[derive(Clone, Debug)]
pub(crate) struct OpenAccounts(Accounts);

impl OpenAccounts {
    pub(crate) fn new(builder: AccountsBuilder, letters: &Letters) -> Self {
        let builder = builder.sign_ups(SignUps::Open);
        Self(build(builder, letters))
    }

    pub(crate) async fn sign_up(
        &self,
        email: &str,
        password: &str,
        name: &str,
    ) -> Result<LoggedIn, AuthError> {
        let from = elsewhere();
        let client = Client::new(&from);
        match self.0.sign_up(email, password, name, &client).await? {
            SignedUp::LoggedIn(begun) => Ok(*begun),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn log_in(&self, email: &str, password: &str) -> Result<LoggedIn, AuthError> {
        let from = elsewhere();
        self.0.log_in(email, password, &Client::new(&from)).await
    }
}

/// An address that nobody had before.
pub(crate) fn elsewhere() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    Ipv4Addr::from(NEXT.fetch_add(1, Ordering::Relaxed)).to_string()
}

impl Deref for OpenAccounts {
    type Target = Accounts;

    fn deref(&self) -> &Accounts {
        &self.0
    }
}

pub(crate) fn keys() -> Arc<KeyRing> {
    Arc::new(KeyRing::new(1, Secret::new([7; 32])).unwrap())
}

impl Bench {
    pub(crate) async fn new(engine: Engine) -> Self {
        let (mut folder, mut databases, mut urls) = (None, Vec::new(), Vec::new());
        match engine {
            Engine::Sqlite => {
                let at = TempDir::new().unwrap();
                urls.extend([1, 2].map(|n| format!("sqlite:{}/{n}.db", at.path().display())));
                folder = Some(at);
            }
            Engine::Postgres => {
                for _ in 0..2 {
                    let database = PostgresServer::shared().await.database().await;
                    urls.push(database.url());
                    databases.push(database);
                }
            }
        }
        let nodes = nodes_of(&urls);
        let fleet = open(nodes.clone()).await;

        let (clock, time) = Clock::manual(Timestamp::from_micros(1_800_000_000_000_000));
        let mut patient = PasswordPoolConfig::default();
        patient.wait = Duration::from_secs(120);
        let passwords = PasswordPool::new(patient).await.unwrap();
        let (keys, ids) = (
            keys(),
            IdGenerator::new(clock.clone(), KeyspaceTag::default()),
        );
        let ids = Arc::new(ids);
        let letters = Letters::default();
        let router = fleet.router().clone();
        let accounts = Accounts::builder(router, ids.clone(), keys.clone(), passwords.clone())
            .clock(clock.clone());
        let accounts = OpenAccounts::new(accounts, &letters);
        Self {
            fleet,
            nodes,
            urls,
            passwords,
            accounts,
            letters,
            keys,
            ids,
            clock,
            time,
            _folder: folder,
            _databases: databases,
        }
    }

    pub(crate) fn router(&self) -> &Router {
        self.fleet.router()
    }

    pub(crate) fn rows(&self) -> SqlSessions {
        SqlSessions::new(self.router().clone(), self.clock.clone())
    }

    pub(crate) fn layer(&self) -> SessionLayer {
        self.layer_on(self.rows())
    }

    pub(crate) fn layer_on(&self, store: impl SessionStore) -> SessionLayer {
        SessionLayer::new(self.sessions_on(store), CookiePolicy::new(true))
    }

    pub(crate) fn sessions_on(&self, store: impl SessionStore) -> Sessions {
        Sessions::builder(store, self.keys.clone(), self.ids.clone())
            .clock(self.clock.clone())
            .build()
    }

    /// Who the layer says has `token`, sent as the cookie. What it notes is written.
    pub(crate) async fn who(&self, token: &str) -> Option<Principal> {
        let sessions = self.sessions_on(self.rows());
        let layer = SessionLayer::new(sessions.clone(), CookiePolicy::new(true));
        let answer = ask(&layer, cookie(token)).await;
        sessions.shutdown().await.unwrap();
        answer.extensions().get().cloned()
    }

    /// Runs a statement on both nodes.
    pub(crate) async fn everywhere(&self, text: &'static str) {
        for node in self.router().nodes().iter() {
            node.database()
                .execute(Sql::both(text).statement())
                .await
                .unwrap();
        }
    }

    /// How many rows the statement counts as `n` on both nodes, one by one.
    pub(crate) async fn counts(&self, text: &'static str) -> Vec<i64> {
        let mut counts = Vec::new();
        for node in self.router().nodes().iter() {
            let row = node
                .database()
                .fetch_optional(Sql::both(text).statement())
                .await;
            counts.push(row.unwrap().unwrap().get("n").unwrap());
        }
        counts
    }
}

impl Bench {
    /// What a statement gives as `row`, on both nodes.
    pub(crate) async fn texts(&self, text: &'static str) -> String {
        let mut texts = String::new();
        for node in self.router().nodes().iter() {
            let rows = node.database().fetch_all(Sql::both(text).statement());
            for row in rows.await.unwrap() {
                texts += &row.get::<String>("row").unwrap();
            }
        }
        texts
    }
}

pub(crate) fn cookie(token: &str) -> Request<()> {
    let cookie = format!("theme=dark; __Host-maxscale={token}");
    Request::builder()
        .header(header::COOKIE, cookie)
        .body(())
        .unwrap()
}

pub(crate) fn authorization(value: &str) -> Request<()> {
    Request::builder()
        .header(header::AUTHORIZATION, value)
        .body(())
        .unwrap()
}

/// The handler was called.
#[derive(Clone, Debug)]
pub(crate) struct Handled;

/// Sends a request through the layer to a handler that answers with the facts it got.
pub(crate) async fn ask(layer: &SessionLayer, request: Request<()>) -> Response<ReplyBody<()>> {
    layer.layer(handler()).oneshot(request).await.unwrap()
}

/// Answers with the facts that it got.
pub(crate) fn handler() -> impl Service<
    Request<()>,
    Response = Response<()>,
    Error = Infallible,
    Future = impl Future<Output = Result<Response<()>, Infallible>> + Send,
> + Clone
+ Send
+ 'static {
    service_fn(|request: Request<()>| async move {
        let mut response = Response::new(());
        response.extensions_mut().insert(Handled);
        if let Some(principal) = request.extensions().get::<Principal>() {
            response.extensions_mut().insert(principal.clone());
        }
        if let Some(subject) = request.extensions().get::<Subject>() {
            response.extensions_mut().insert(subject.clone());
        }
        Ok::<_, Infallible>(response)
    })
}
