//! SQLite: one writer connection and several readers on a file.
//!
//! WAL and `synchronous = FULL`: what was acknowledged is on disk. Writers queue
//! in this process for the one connection; other processes wait by `busy_timeout`.

use std::borrow::Cow;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx_core::transaction::TransactionManager;

use super::driver::{self, bound, verbs};
use crate::database::{DatabaseOptions, Usage};
use crate::error::ShardError;
use crate::sql::row::{RawRow, Row};
use crate::sql::{Engine, Statement, Watermark};

type Pooled = sqlx::pool::PoolConnection<sqlx::Sqlite>;

verbs!(sqlx::Sqlite, Pooled, Engine::Sqlite, Sqlite, |_conn| true);

/// What `json_each` takes apart.
fn ints(values: &[i32]) -> String {
    format!("{values:?}")
}

/// The driver's own stops at the row, and so before the commit that may fail.
pub(crate) async fn fetch_optional(
    conn: &mut Pooled,
    database: &Arc<str>,
    statement: Statement,
) -> Result<Option<Row>, ShardError> {
    let rows = fetch_all(conn, database, statement).await?;
    Ok(rows.into_iter().next())
}

/// Commits; a file has no replica that a watermark would be for.
pub(crate) async fn commit_marked(
    conn: &mut Pooled,
    database: &Arc<str>,
) -> Result<Option<Watermark>, ShardError> {
    commit(conn, database).await.map(|()| None)
}

const BUSY: Duration = Duration::from_secs(5);
const READERS: u32 = 4;

/// The two pools on one file.
#[derive(Clone, Debug)]
pub(crate) struct Pools {
    pub(crate) writer: SqlitePool,
    pub(crate) readers: SqlitePool,
    path: PathBuf,
}

/// Pools that open the file when first used.
pub(crate) fn pools(
    database: &Arc<str>,
    url: &str,
    options: &DatabaseOptions,
) -> Result<Pools, ShardError> {
    let path = path(url).ok_or_else(|| ShardError::Url {
        database: database.clone(),
        why: "it must be sqlite: and the path of a file, without parameters".into(),
    })?;
    let connect = SqliteConnectOptions::new()
        .filename(&path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(BUSY);
    let pool = |max| {
        SqlitePoolOptions::new()
            .max_connections(max)
            .acquire_timeout(options.acquire_timeout.max(BUSY))
            .test_before_acquire(false)
            .idle_timeout(None)
            .max_lifetime(None)
    };
    let writer = pool(1).connect_lazy_with(connect.clone().create_if_missing(true));
    let reader = connect.pragma("query_only", "ON");
    Ok(Pools {
        writer,
        readers: pool(READERS).connect_lazy_with(reader),
        path,
    })
}

impl Pools {
    /// Others on the same file, with one connection each.
    pub(crate) fn apart(&self) -> Self {
        let alone = |pool: &SqlitePool| {
            let options = pool.options().clone().max_connections(1);
            options.connect_lazy_with((*pool.connect_options()).clone())
        };
        Self {
            writer: alone(&self.writer),
            readers: alone(&self.readers),
            path: self.path.clone(),
        }
    }
}

/// How one of the pools is used.
pub(crate) fn usage(pool: &SqlitePool) -> Usage {
    let idle = u32::try_from(pool.num_idle()).unwrap_or(u32::MAX);
    Usage {
        used: pool.size().saturating_sub(idle),
        idle: Some(idle),
        most: pool.options().get_max_connections(),
    }
}

/// Creates the file and turns WAL on, one process at a time.
///
/// Without the lock, several processes that open a fresh file at once get
/// "database is locked" despite the busy timeout.
pub(crate) async fn create(database: &Arc<str>, pools: &Pools) -> Result<(), ShardError> {
    let failed = |source: std::io::Error| ShardError::Connect {
        database: database.clone(),
        source: source.into(),
    };
    let lock = pools.path.with_added_extension("lock");
    let held = tokio::task::spawn_blocking(move || {
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(lock)?;
        file.lock()?;
        Ok(file)
    });
    let held = held
        .await
        .map_err(|join| failed(join.into()))
        .and_then(|file| file.map_err(failed))?;
    let opened = pools.writer.acquire().await;
    drop(held);
    opened.map(drop).map_err(|e| driver::error(database, e))
}

/// Whether the file is there.
pub(crate) fn is_made(pools: &Pools) -> bool {
    pools.path.exists()
}

fn path(url: &str) -> Option<PathBuf> {
    let rest = url.strip_prefix("sqlite:")?;
    let path = Path::new(rest.strip_prefix("//").unwrap_or(rest));
    // A database in memory would be another one for each connection.
    let memory = path.as_os_str() == ":memory:";
    (path.file_name().is_some() && !memory && !rest.contains('?')).then(|| path.to_owned())
}
