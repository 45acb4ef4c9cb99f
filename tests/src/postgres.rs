//! PostgreSQL for a test: shared, or one of its own.

mod cluster;
mod pooler;
mod replica;

use std::{
    path::Path,
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Duration,
};

use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::{runtime, sync::OnceCell, task::spawn_blocking, time::timeout};

pub use self::pooler::PgBouncer;

pub(crate) use self::cluster::server_folder;

use self::cluster::Setup;
use crate::{
    certificates::Certificate,
    daemon::{Daemon, End},
    source::{self, POSTGRES},
    wait::free_port,
    watchdog,
};

/// A running PostgreSQL, version 15 or newer.
///
/// It listens on 127.0.0.1, on a port that stays the same when it is
/// restarted. It is gone when it is dropped, and in any case when the test
/// process is gone.
///
/// # Panics
///
/// Every method panics, and so fails the test, when the server does not do
/// what it is told.
#[derive(Debug)]
pub struct PostgresServer {
    url: String,
    // None: somebody else's, known by its URL.
    daemon: Option<Daemon>,
    shared: bool,
}

/// A database that no other test uses, dropped with this value.
#[derive(Debug)]
pub struct Database {
    name: String,
    url: String,
    server: Owner,
}

/// What becomes of a database that nobody drops.
#[derive(Clone, Debug)]
enum Owner {
    /// It goes with its server's folder.
    Test,
    /// So it does, but a run of many tests would fill the disk.
    Shared { admin: String },
    /// It would stay: dropping it is waited for.
    Url { admin: String },
}

// === impl PostgresServer ===

impl PostgresServer {
    /// The server that all tests of this process share, each with a
    /// [`database`](Self::database) of its own.
    ///
    /// It is fast and forgetful (`fsync=off`): a test that stops or kills its
    /// server [`start`](Self::start)s one of its own.
    pub async fn shared() -> &'static Self {
        static SHARED: OnceCell<PostgresServer> = OnceCell::const_new();
        SHARED
            .get_or_init(|| async {
                let Some(url) = source::url(&POSTGRES) else {
                    return Self::launch(Setup::new(true)).await;
                };
                if let Err(why) = probe(&url, None).await {
                    panic!("DATABASE_URL: {why}");
                }
                Self {
                    url,
                    daemon: None,
                    shared: true,
                }
            })
            .await
    }

    /// A server for this test alone, which loses nothing that it acknowledged.
    pub async fn start() -> Self {
        Self::launch(Setup::new(false)).await
    }

    /// As [`start`](Self::start); it shows this certificate to clients that ask
    /// for TLS, which is theirs to do: `?sslmode=verify-full&sslrootcert=..` after
    /// a URL.
    pub async fn start_with_tls(certificate: &Certificate) -> Self {
        Self::launch(Setup {
            certificate: Some(certificate.clone()),
            ..Setup::new(false)
        })
        .await
    }

    /// Where it listens, as a URL of its maintenance database.
    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// Makes an empty database with a name of its own.
    pub async fn database(&self) -> Database {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("maxscale_test_{}_{number}", watchdog::run_name());
        // template0: nobody can be connected to it, which would be an error.
        let sql = format!("CREATE DATABASE {name} TEMPLATE template0");
        if let Err(error) = execute(&self.url, sql).await {
            panic!("cannot create database {name}: {error}");
        }
        Database {
            url: with_database(&self.url, &name),
            name,
            server: match (&self.daemon, self.shared) {
                (None, _) => Owner::Url { admin: self.url() },
                (Some(_), true) => Owner::Shared { admin: self.url() },
                (Some(_), false) => Owner::Test,
            },
        }
    }

    /// Shuts the server down; its data stays.
    pub async fn stop(&self) {
        self.own().end(End::Gently).await;
    }

    /// Kills the server with all its processes at once (`kill -9`).
    pub async fn kill(&self) {
        self.own().end(End::Killed).await;
    }

    /// Freezes the server with all its processes (`SIGSTOP`): it accepts
    /// connections and never answers.
    pub fn pause(&self) {
        self.own().pause();
    }

    /// Lets a paused server go on.
    pub fn resume(&self) {
        self.own().resume();
    }

    /// Stops the server if it runs, starts it on the same port and data, and
    /// returns once it answers.
    pub async fn restart(&self) {
        let daemon = self.own();
        daemon.end(End::Gently).await;
        self.run(daemon).await.unwrap_or_else(|why| panic!("{why}"));
    }

    /// The first process of the server; `None` while it is down, or in a
    /// container.
    pub fn pid(&self) -> Option<u32> {
        self.daemon.as_ref()?.pid()
    }

    /// Where its files and its `log` are; `None` in a container.
    pub fn folder(&self) -> Option<&Path> {
        self.daemon.as_ref()?.folder()
    }

    fn own(&self) -> &Daemon {
        assert!(
            !self.shared,
            "other tests use this server: PostgresServer::start() gives one to break"
        );
        self.daemon
            .as_ref()
            .expect("a server of its own was started")
    }

    async fn launch(setup: Setup) -> Self {
        let source = spawn_blocking(|| source::source(&POSTGRES))
            .await
            .unwrap_or_else(|error| resume(error));
        let mut last = String::new();
        // Between choosing a port and listening on it somebody may take it.
        for _ in 0..5 {
            let port = free_port();
            let (source, setup) = (source.clone(), setup.clone());
            let shared = setup.shared;
            let daemon = spawn_blocking(move || cluster::daemon(source, port, &setup))
                .await
                .unwrap_or_else(|error| resume(error));
            let server = Self {
                url: format!("postgres://postgres@127.0.0.1:{port}/postgres"),
                daemon: None,
                shared,
            };
            match server.run(&daemon).await {
                Ok(()) => {
                    return Self {
                        daemon: Some(daemon),
                        ..server
                    };
                }
                Err(why) => last = why,
            }
        }
        panic!("PostgreSQL did not start: {last}");
    }

    async fn run(&self, daemon: &Daemon) -> Result<(), String> {
        let data = daemon.folder().map(|folder| folder.join(cluster::DATA));
        let data = data.map(|data| data.to_string_lossy().into_owned());
        daemon
            .start(async || probe(&self.url, data.as_deref()).await)
            .await
    }
}

// === impl Database ===

impl Database {
    /// Where it is, for a client.
    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// Its name, unique to this run.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let (admin, wait) = match &self.server {
            Owner::Test => return,
            Owner::Shared { admin } => (admin.clone(), false),
            Owner::Url { admin } => (admin.clone(), true),
        };
        let sql = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        // The test's runtime may be ending; this one is not. Best effort: a
        // server that is gone took its databases along.
        let dropping = thread::spawn(move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build();
            if let Ok(runtime) = runtime {
                let limit = Duration::from_secs(10);
                let _ = runtime.block_on(async { timeout(limit, execute(&admin, sql)).await });
            }
        });
        if wait {
            let _ = dropping.join();
        }
    }
}

async fn execute(url: &str, sql: String) -> Result<(), sqlx::Error> {
    let mut connection = PgConnection::connect(url).await?;
    sqlx::raw_sql(AssertSqlSafe(sql))
        .execute(&mut connection)
        .await?;
    connection.close().await
}

/// Whether a server that is new enough, and the one we mean, answers.
async fn probe(url: &str, data: Option<&str>) -> Result<(), String> {
    let facts = async {
        let mut connection = PgConnection::connect(url).await?;
        let facts: (i32, String) = sqlx::query_as(
            "SELECT current_setting('server_version_num')::int4, \
             coalesce(current_setting('data_directory', true), '')",
        )
        .fetch_one(&mut connection)
        .await?;
        connection.close().await?;
        Ok::<_, sqlx::Error>(facts)
    };
    let (version, directory) = facts.await.map_err(|error| error.to_string())?;
    if version < 150_000 {
        return Err(format!("version {version} is older than 15"));
    }
    if data.is_some_and(|data| data != directory) {
        return Err("another server listens on this port".to_owned());
    }
    Ok(())
}

/// The same server's URL with another database in its path.
fn with_database(url: &str, name: &str) -> String {
    let start = url.find("://").map_or(0, |at| at + 3);
    let (server, query) = match url[start..].find('?') {
        Some(at) => url.split_at(start + at),
        None => (url, ""),
    };
    let server = match server[start..].find('/') {
        Some(at) => &server[..start + at],
        None => server,
    };
    format!("{server}/{name}{query}")
}

/// Lets a panic of a blocking task go on in the test.
pub(crate) fn resume(error: tokio::task::JoinError) -> ! {
    std::panic::resume_unwind(error.into_panic())
}

#[cfg(test)]
mod tests {
    use super::with_database;

    #[test]
    fn only_the_path_of_a_url_names_the_database() {
        for (url, expected) in [
            ("postgres://a:b@h:1/x", "postgres://a:b@h:1/y"),
            ("postgres://h", "postgres://h/y"),
            (
                "postgres://h/?sslmode=disable",
                "postgres://h/y?sslmode=disable",
            ),
            ("postgres://h?user=u/v", "postgres://h/y?user=u/v"),
        ] {
            assert_eq!(with_database(url, "y"), expected);
        }
    }
}
