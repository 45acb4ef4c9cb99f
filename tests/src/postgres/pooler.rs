//! PgBouncer in front of a server.

use std::{ffi::OsString, fs, path::Path};

use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};
use tokio::task::spawn_blocking;

use super::{Database, PostgresServer, resume, server_folder, with_database};
use crate::{
    daemon::{Daemon, End, Local},
    source::{self, PGBOUNCER, PGBOUNCER_OF_ANY_AGE, Service, Source, is_new_enough},
    wait::free_port,
};

const CONFIG: &str = "pgbouncer.ini";

/// PgBouncer in transaction mode: a client has a connection to the server for
/// one transaction at a time.
///
/// It keeps at most [`POOL`](Self::POOL) connections to the server per
/// database. It listens on 127.0.0.1, on a port that stays the same when it is
/// restarted. It is gone when it is dropped, and in any case when the test
/// process is gone.
///
/// # Panics
///
/// Every method panics, and so fails the test, when it does not do what it is
/// told.
#[derive(Debug)]
pub struct PgBouncer {
    url: String,
    daemon: Daemon,
}

// === impl PgBouncer ===

impl PgBouncer {
    /// How many connections to the server it has per database.
    pub const POOL: u32 = 5;

    /// Starts one with prepared statements in front of a server, which need not run.
    pub async fn start(server: &PostgresServer) -> Self {
        Self::launch(&PGBOUNCER, server).await
    }

    /// Starts one that knows no prepared statements: the distribution's own if
    /// that is older than 1.21, else one in which they are turned off.
    pub async fn start_unprepared(server: &PostgresServer) -> Self {
        Self::launch(&PGBOUNCER_OF_ANY_AGE, server).await
    }

    async fn launch(service: &'static Service, server: &PostgresServer) -> Self {
        let source = spawn_blocking(|| source::source(service))
            .await
            .unwrap_or_else(|error| resume(error));
        let mut last = String::new();
        // Between choosing a port and listening on it somebody may take it.
        for _ in 0..5 {
            let port = free_port();
            let this = Self {
                url: format!("postgres://postgres@127.0.0.1:{port}/postgres"),
                daemon: daemon(service, source.clone(), port, &server.url),
            };
            match this.run().await {
                Ok(()) => return this,
                Err(why) => last = why,
            }
        }
        panic!("PgBouncer did not start: {last}");
    }

    /// Where it listens, as a URL of the server's maintenance database.
    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// Where a database of the server is through it, for a client.
    pub fn url_of(&self, database: &Database) -> String {
        with_database(&self.url, database.name())
    }

    /// Ends it, with all connections.
    pub async fn stop(&self) {
        self.daemon.end(End::Gently).await;
    }

    /// Kills it (`kill -9`).
    pub async fn kill(&self) {
        self.daemon.end(End::Killed).await;
    }

    /// Freezes it (`SIGSTOP`): it accepts connections and never answers.
    pub fn pause(&self) {
        self.daemon.pause();
    }

    /// Lets a paused one go on.
    pub fn resume(&self) {
        self.daemon.resume();
    }

    /// Stops it if it runs, starts it on the same port, and returns once it
    /// answers.
    pub async fn restart(&self) {
        self.stop().await;
        self.run().await.unwrap_or_else(|why| panic!("{why}"));
    }

    /// Its process; `None` while it is down.
    pub fn pid(&self) -> Option<u32> {
        self.daemon.pid()
    }

    /// Where its files and its `log` are.
    pub fn folder(&self) -> Option<&Path> {
        self.daemon.folder()
    }

    async fn run(&self) -> Result<(), String> {
        let console = with_database(&self.url, "pgbouncer");
        let folder = self.daemon.folder().unwrap_or(Path::new(""));
        let config = folder.join(CONFIG).to_string_lossy().into_owned();
        self.daemon
            .start(async || probe(&console, &config).await)
            .await
    }
}

fn daemon(service: &'static Service, source: Source, port: u16, server: &str) -> Daemon {
    let Source::Programs(programs) = source else {
        panic!("{}", source::programs_only(service));
    };
    let prepared = match (is_new_enough(&PGBOUNCER, &programs.version), service.key) {
        // It would not know the setting.
        (false, _) => "",
        (true, key) if key == PGBOUNCER.key => "max_prepared_statements = 100\n",
        (true, _) => "max_prepared_statements = 0\n",
    };
    let folder = server_folder("pgbouncer").expect("the run's folder is ours");
    let address = server
        .rsplit('@')
        .next()
        .and_then(|it| it.split('/').next());
    let (host, server_port) = address
        .and_then(|address| address.split_once(':'))
        .expect("a server's URL has a host and a port");
    let config = folder.join(CONFIG);
    let text = format!(
        "[databases]\n\
         * = host={host} port={server_port} user=postgres\n\
         [pgbouncer]\n\
         listen_addr = 127.0.0.1\n\
         listen_port = {port}\n\
         unix_socket_dir =\n\
         auth_type = any\n\
         pool_mode = transaction\n\
         {prepared}\
         default_pool_size = {}\n\
         max_client_conn = 1000\n\
         server_login_retry = 1\n\
         ignore_startup_parameters = extra_float_digits\n",
        PgBouncer::POOL
    );
    fs::write(&config, text).expect("the server's folder can be written to");
    let arguments = vec![OsString::from(config)];
    Daemon::Local(Local::new(service, programs, arguments, folder))
}

/// Whether it answers, and is the one we mean.
async fn probe(console: &str, config: &str) -> Result<(), String> {
    let rows = async {
        let mut connection = PgConnection::connect(console).await?;
        let rows = sqlx::raw_sql(AssertSqlSafe("SHOW CONFIG"))
            .fetch_all(&mut connection)
            .await?;
        connection.close().await?;
        Ok::<_, sqlx::Error>(rows)
    };
    let rows = rows.await.map_err(|error| error.to_string())?;
    let ours = rows.iter().any(|row| {
        let (key, value) = (row.try_get::<String, _>(0), row.try_get::<String, _>(1));
        key.is_ok_and(|key| key == "conffile") && value.is_ok_and(|value| value == config)
    });
    ours.then_some(())
        .ok_or_else(|| "another server listens on this port".to_owned())
}
