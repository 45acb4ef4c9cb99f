mod announce;
mod apart;
mod health;
mod opener;
mod options;
mod pooled;
#[cfg_attr(
    not(feature = "postgres"),
    expect(dead_code, reason = "only PostgreSQL is far away")
)]
pub(crate) mod pulse;
mod role;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use maxscale_core::fact::VirtualShard;
use tokio::sync::OnceCell;

use crate::engine::capabilities::Capabilities;
use crate::error::ShardError;
use crate::sql::{Conn, Engine, Row, Statement, Tx, TxOptions, conn::RawConn};
use crate::telemetry::Counts;
use pulse::Pulse;

pub use announce::Announcements;
pub use health::{Failure, Health, KnownDown};
pub(crate) use opener::Opener;
pub use options::DatabaseOptions;

/// One database: connections to it, opened when first used. Cheap to clone.
///
/// A single statement goes without a transaction around it. On SQLite, reads
/// go to a reader and everything else to the one writer.
#[derive(Clone, Debug)]
pub struct Database {
    name: Arc<str>,
    pool: Pool,
    options: DatabaseOptions,
    patience: Duration,
    capabilities: Arc<OnceCell<Capabilities>>,
    lane: Lane,
    counts: Counts,
}

/// Whose places a connection takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    Requests,
    Background,
}

/// How a pool is used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    pub(crate) used: u32,
    /// Told of one pool where several share what idles.
    pub(crate) idle: Option<u32>,
    pub(crate) most: u32,
}

#[derive(Clone, Debug)]
pub(crate) enum Pool {
    #[cfg(feature = "postgres")]
    Postgres(crate::engine::postgres::Pool),
    #[cfg(feature = "sqlite")]
    Sqlite(crate::engine::sqlite::Pools),
    /// Keeps matches exhaustive without any engine.
    #[allow(
        dead_code,
        reason = "no value exists; with an engine no code makes one"
    )]
    Never(Infallible),
}

// === impl Database ===

impl Database {
    /// The database at `url`, called `name` in errors. Connects to nothing yet.
    ///
    /// `postgres://user@host/database` or `sqlite:path`; each needs its feature.
    /// Where a pooler in transaction mode answers, `pooler=prepared` or
    /// `pooler=unprepared` in the query says so.
    ///
    /// # Errors
    ///
    /// Returns [`ShardError::Url`] for another scheme, a part that is missing,
    /// or TLS without the feature.
    pub fn open(
        name: impl Into<Arc<str>>,
        url: &str,
        options: &DatabaseOptions,
    ) -> Result<Self, ShardError> {
        Opener::new(*options).open(name.into(), url)
    }

    /// The same database for background work, whose connections are counted apart:
    /// it cannot keep requests waiting, nor they it.
    #[must_use]
    pub fn background(&self) -> Self {
        Self {
            lane: Lane::Background,
            ..self.clone()
        }
    }

    /// The same database under another name in errors and logs.
    pub(crate) fn called(&self, name: impl Into<Arc<str>>) -> Self {
        Self {
            name: name.into(),
            ..self.clone()
        }
    }

    /// The database's name in errors and logs.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The engine behind it.
    pub fn engine(&self) -> Engine {
        self.pool.engine()
    }

    /// What the database can do on this way to it, asked in one statement by the
    /// first caller and known from then on: a server that is given other
    /// settings is told of when the process starts anew.
    ///
    /// # Errors
    ///
    /// As [`fetch_all`](Self::fetch_all); the next caller asks again.
    pub async fn capabilities(&self) -> Result<Capabilities, ShardError> {
        let asked = (self.capabilities).get_or_try_init(|| self.ask_capabilities());
        asked.await.copied()
    }

    async fn ask_capabilities(&self) -> Result<Capabilities, ShardError> {
        match &self.pool {
            #[cfg(feature = "postgres")]
            Pool::Postgres(pool) => {
                let (name, patience) = (&self.name, self.patience);
                crate::engine::postgres::capabilities::ask(name, pool, self.lane, patience).await
            }
            #[cfg(feature = "sqlite")]
            Pool::Sqlite(_) => Ok(Capabilities::SQLITE),
            Pool::Never(never) => crate::engine::never(never),
        }
    }

    /// Makes sure the database can be reached; creates a SQLite file.
    ///
    /// # Errors
    ///
    /// Returns [`ShardError::Connect`] when it cannot within the time for a connection.
    pub async fn reach(&self) -> Result<(), ShardError> {
        match &self.pool {
            #[cfg(feature = "postgres")]
            Pool::Postgres(pool) => crate::engine::postgres::reach(&self.name, pool).await,
            #[cfg(feature = "sqlite")]
            Pool::Sqlite(pools) => crate::engine::sqlite::create(&self.name, pools).await,
            Pool::Never(never) => crate::engine::never(never),
        }
    }

    /// Whether there is something to read, without making it: a SQLite file may be missing.
    pub(crate) async fn is_made(&self) -> Result<bool, ShardError> {
        match &self.pool {
            #[cfg(feature = "sqlite")]
            Pool::Sqlite(pools) => Ok(crate::engine::sqlite::is_made(pools)),
            _ => self.reach().await.map(|()| true),
        }
    }

    /// A connection that may write.
    ///
    /// # Errors
    ///
    /// Returns [`ShardError::Connect`] when none is had in time.
    pub async fn writer(&self) -> Result<Conn, ShardError> {
        self.acquire(true).await
    }

    /// A connection for reading. On SQLite it refuses writes.
    ///
    /// # Errors
    ///
    /// Returns [`ShardError::Connect`] when none is had in time.
    pub async fn reader(&self) -> Result<Conn, ShardError> {
        self.acquire(false).await
    }

    /// Begins a transaction that may write: `BEGIN`, on SQLite `BEGIN IMMEDIATE`.
    ///
    /// # Errors
    ///
    /// Returns [`ShardError::Connect`] when no connection is had in time.
    pub async fn begin(&self) -> Result<Tx, ShardError> {
        self.begin_on(None).await
    }

    /// Begins a transaction that may write, as `options` say.
    ///
    /// # Errors
    ///
    /// As [`begin`](Self::begin).
    pub async fn begin_with(&self, options: &TxOptions) -> Result<Tx, ShardError> {
        self.begin_as(None, options, false).await
    }

    pub(crate) async fn begin_on(&self, shard: Option<VirtualShard>) -> Result<Tx, ShardError> {
        self.begin_as(shard, &TxOptions::new(), false).await
    }

    pub(crate) async fn begin_as(
        &self,
        shard: Option<VirtualShard>,
        options: &TxOptions,
        read_only: bool,
    ) -> Result<Tx, ShardError> {
        let limits = self.limits_in_transactions();
        let statement_timeout = self.options.statement_timeout;
        let begin = options.begin(self.engine(), read_only, &limits, statement_timeout);
        let conn = self.acquire(!read_only).await?;
        Tx::begin(conn, shard, begin, options).await
    }

    /// Runs one writing statement; gives the number of rows it touched.
    ///
    /// # Errors
    ///
    /// As [`Conn::execute`].
    pub async fn execute(&self, statement: Statement) -> Result<u64, ShardError> {
        self.writer().await?.execute(statement).await
    }

    /// Runs one writing statement that gives rows (`RETURNING`).
    ///
    /// # Errors
    ///
    /// As [`Conn::execute`].
    pub async fn execute_returning(&self, statement: Statement) -> Result<Vec<Row>, ShardError> {
        self.writer().await?.fetch_all(statement).await
    }

    /// Reads all rows of one statement.
    ///
    /// # Errors
    ///
    /// As [`Conn::execute`].
    pub async fn fetch_all(&self, statement: Statement) -> Result<Vec<Row>, ShardError> {
        self.reader().await?.fetch_all(statement).await
    }

    /// Reads the first row of one statement, if any.
    ///
    /// # Errors
    ///
    /// As [`Conn::execute`].
    pub async fn fetch_optional(&self, statement: Statement) -> Result<Option<Row>, ShardError> {
        self.reader().await?.fetch_optional(statement).await
    }

    /// Whether its server answers, as calls and checks found. A SQLite file always does.
    pub fn health(&self) -> Health {
        self.pulse().map(|pulse| pulse.health()).unwrap_or_default()
    }

    fn pulse(&self) -> Option<&Arc<Pulse>> {
        match &self.pool {
            #[cfg(feature = "postgres")]
            Pool::Postgres(pool) => Some(pool.pulse()),
            #[cfg(feature = "sqlite")]
            Pool::Sqlite(_) => None,
            Pool::Never(never) => crate::engine::never(never),
        }
    }

    /// Closes every connection; later calls fail.
    pub async fn close(&self) {
        match &self.pool {
            #[cfg(feature = "postgres")]
            Pool::Postgres(pool) => pool.close().await,
            #[cfg(feature = "sqlite")]
            Pool::Sqlite(pools) => {
                pools.readers.close().await;
                pools.writer.close().await;
            }
            Pool::Never(never) => crate::engine::never(never),
        }
    }

    async fn acquire(&self, write: bool) -> Result<Conn, ShardError> {
        if write && let Some(why) = self.refuses_writes().await {
            let database = self.name.clone();
            return Err(ShardError::WritesRefused { database, why });
        }
        let began = self.counts.begin();
        let raw: Result<RawConn, ShardError> = match &self.pool {
            #[cfg(feature = "postgres")]
            Pool::Postgres(pool) => crate::engine::postgres::acquire(&self.name, pool, self.lane)
                .await
                .map(RawConn::Postgres),
            #[cfg(feature = "sqlite")]
            Pool::Sqlite(pools) => {
                let pool = if write { &pools.writer } else { &pools.readers };
                (pool.acquire().await)
                    .map(RawConn::Sqlite)
                    .map_err(|e| crate::engine::driver::error(&self.name, e))
            }
            Pool::Never(never) => crate::engine::never(never),
        };
        let place = match self.engine() {
            Engine::Postgres => self.lane as usize,
            Engine::Sqlite => usize::from(!write),
        };
        self.counts.waited(began, place, raw.as_ref().err());
        let (name, counts) = (self.name.clone(), self.counts.clone());
        let pulse = self.pulse().cloned();
        Ok(Conn::new(raw?, name, self.patience, counts, pulse))
    }
}

// === impl Pool ===

impl Pool {
    fn engine(&self) -> Engine {
        match self {
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => Engine::Postgres,
            #[cfg(feature = "sqlite")]
            Self::Sqlite(_) => Engine::Sqlite,
            Self::Never(never) => crate::engine::never(never),
        }
    }

    /// How its part `at` is used: of requests and of background work, or the
    /// writer and the readers.
    pub(crate) fn usage(&self, at: usize) -> Usage {
        let _ = at;
        match self {
            #[cfg(feature = "postgres")]
            Self::Postgres(pool) => pool.usage([Lane::Requests, Lane::Background][at]),
            #[cfg(feature = "sqlite")]
            Self::Sqlite(pools) => {
                crate::engine::sqlite::usage([&pools.writer, &pools.readers][at])
            }
            Self::Never(never) => crate::engine::never(never),
        }
    }
}
