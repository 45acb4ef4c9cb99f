use std::convert::Infallible;
use std::sync::Arc;

use crate::error::ShardError;
use crate::sql::{Engine, Row, Statement};

/// A connection to either engine: the one place where a statement is dispatched.
///
/// A user of one engine takes the concrete sqlx connection out of it
/// ([`as_postgres`](Conn::as_postgres), [`as_sqlite`](Conn::as_sqlite)) and has
/// all of sqlx.
///
/// # Cancellation
///
/// A dropped statement outside a transaction may or may not have run. Inside
/// one, it makes the commit fail.
#[derive(Debug)]
pub struct Conn {
    pub(crate) raw: RawConn,
    pub(crate) database: Arc<str>,
    // PostgreSQL answers the COMMIT of a failed transaction with ROLLBACK and no error.
    // Also true while a statement runs: if it is dropped, nobody knows whether it failed.
    failed: bool,
    // Statements past this handle fail unseen.
    handed_out: bool,
}

#[derive(Debug)]
pub(crate) enum RawConn {
    #[cfg(feature = "postgres")]
    Postgres(sqlx::pool::PoolConnection<sqlx::Postgres>),
    #[cfg(feature = "sqlite")]
    Sqlite(sqlx::pool::PoolConnection<sqlx::Sqlite>),
    /// Keeps matches exhaustive without any engine.
    #[allow(
        dead_code,
        reason = "no value exists; with an engine no code makes one"
    )]
    Never(Infallible),
}

macro_rules! dispatch {
    ($self:expr, $method:ident $(, $arg:expr)*) => {
        match &mut $self.raw {
            #[cfg(feature = "postgres")]
            RawConn::Postgres(conn) => crate::engine::postgres::$method(conn, &$self.database $(, $arg)*).await,
            #[cfg(feature = "sqlite")]
            RawConn::Sqlite(conn) => crate::engine::sqlite::$method(conn, &$self.database $(, $arg)*).await,
            RawConn::Never(never) => {
                $(let _ = $arg;)*
                crate::engine::never(never)
            }
        }
    };
}

// === impl Conn ===

impl Conn {
    pub(crate) const fn new(raw: RawConn, database: Arc<str>) -> Self {
        Self {
            raw,
            database,
            failed: false,
            handed_out: false,
        }
    }

    /// The engine behind this connection.
    pub fn engine(&self) -> Engine {
        match &self.raw {
            #[cfg(feature = "postgres")]
            RawConn::Postgres(_) => Engine::Postgres,
            #[cfg(feature = "sqlite")]
            RawConn::Sqlite(_) => Engine::Sqlite,
            RawConn::Never(never) => crate::engine::never(never),
        }
    }

    /// Runs a statement; gives the number of rows it touched.
    ///
    /// # Errors
    ///
    /// Returns [`ShardError::Connect`], [`ShardError::Unique`] or [`ShardError::Statement`].
    pub async fn execute(&mut self, statement: Statement) -> Result<u64, ShardError> {
        let failed = std::mem::replace(&mut self.failed, true);
        let done: Result<u64, ShardError> = dispatch!(self, execute, statement);
        self.failed = failed || done.is_err();
        done
    }

    /// Runs a statement; gives all its rows.
    ///
    /// # Errors
    ///
    /// As [`execute`](Self::execute).
    pub async fn fetch_all(&mut self, statement: Statement) -> Result<Vec<Row>, ShardError> {
        let failed = std::mem::replace(&mut self.failed, true);
        let rows: Result<Vec<Row>, ShardError> = dispatch!(self, fetch_all, statement);
        self.failed = failed || rows.is_err();
        rows
    }

    /// Runs a statement; gives its first row, if any.
    ///
    /// # Errors
    ///
    /// As [`execute`](Self::execute).
    pub async fn fetch_optional(
        &mut self,
        statement: Statement,
    ) -> Result<Option<Row>, ShardError> {
        let failed = std::mem::replace(&mut self.failed, true);
        let row: Result<Option<Row>, ShardError> = dispatch!(self, fetch_optional, statement);
        self.failed = failed || row.is_err();
        row
    }

    /// Runs a statement that always gives a row.
    ///
    /// # Errors
    ///
    /// As [`execute`](Self::execute), and [`ShardError::NoRow`].
    pub async fn fetch_one(&mut self, statement: Statement) -> Result<Row, ShardError> {
        let row = self.fetch_optional(statement).await?;
        row.ok_or_else(|| ShardError::NoRow {
            database: self.database.clone(),
        })
    }

    /// Runs several statements without parameters, separated by `;`.
    pub(crate) async fn run_script(&mut self, script: &'static str) -> Result<(), ShardError> {
        dispatch!(self, run_script, script)
    }

    pub(crate) async fn begin(&mut self) -> Result<(), ShardError> {
        dispatch!(self, begin)
    }

    pub(crate) async fn commit(&mut self) -> Result<(), ShardError> {
        if self.handed_out && !self.failed {
            // Any statement tells whether the transaction still stands.
            match self.execute(crate::sql("SELECT 1")).await {
                Err(error) if error.is_unreachable() => return Err(error),
                _ => {}
            }
        }
        if self.failed {
            return Err(ShardError::Aborted {
                database: self.database.clone(),
            });
        }
        dispatch!(self, commit)
    }

    pub(crate) async fn rollback(&mut self) -> Result<(), ShardError> {
        dispatch!(self, rollback)
    }

    pub(crate) fn close_on_drop(&mut self) {
        match &mut self.raw {
            #[cfg(feature = "postgres")]
            RawConn::Postgres(conn) => conn.close_on_drop(),
            #[cfg(feature = "sqlite")]
            RawConn::Sqlite(conn) => conn.close_on_drop(),
            RawConn::Never(never) => crate::engine::never(never),
        }
    }

    /// The PostgreSQL connection, if it is one.
    #[cfg(feature = "postgres")]
    pub fn as_postgres(&mut self) -> Option<&mut sqlx::PgConnection> {
        match &mut self.raw {
            RawConn::Postgres(conn) => {
                self.handed_out = true;
                Some(conn)
            }
            #[cfg(feature = "sqlite")]
            RawConn::Sqlite(_) => None,
            RawConn::Never(never) => crate::engine::never(never),
        }
    }

    /// The SQLite connection, if it is one.
    #[cfg(feature = "sqlite")]
    pub fn as_sqlite(&mut self) -> Option<&mut sqlx::SqliteConnection> {
        match &mut self.raw {
            RawConn::Sqlite(conn) => Some(conn),
            #[cfg(feature = "postgres")]
            RawConn::Postgres(_) => None,
            RawConn::Never(never) => crate::engine::never(never),
        }
    }
}
