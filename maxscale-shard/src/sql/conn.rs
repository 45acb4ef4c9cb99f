use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

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
/// one, it makes the commit fail. On PostgreSQL it costs the connection, as does
/// one that was given up ([`statement_timeout`](crate::DatabaseOptions::statement_timeout)).
#[derive(Debug)]
pub struct Conn {
    pub(crate) raw: RawConn,
    pub(crate) database: Arc<str>,
    // PostgreSQL answers the COMMIT of a failed transaction with ROLLBACK and no error.
    // Also true while a statement runs: if it is dropped, nobody knows whether it failed.
    failed: bool,
    // Statements past this handle fail unseen.
    handed_out: bool,
    // How long a statement may stay without an answer.
    patience: Duration,
    // Nobody may use it again: a statement is under way or was given up, or a
    // transaction is open.
    spent: bool,
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

/// Dispatches, and gives up a server that does not answer.
macro_rules! answered {
    ($self:expr, $method:ident $(, $arg:expr)*) => {{
        $self.spent = true;
        let answer = timeout($self.patience, async { dispatch!($self, $method $(, $arg)*) });
        match answer.await {
            Ok(answer) => {
                // Another connection may lead to a server that is well.
                $self.spent = matches!(&answer, Err(error) if ShardError::is_unreachable(error));
                answer
            }
            Err(_) => Err(ShardError::Connect {
                database: $self.database.clone(),
                source: format!("no answer within {:?}", $self.patience).into(),
            }),
        }
    }};
}

// === impl Conn ===

impl Conn {
    pub(crate) const fn new(raw: RawConn, database: Arc<str>, patience: Duration) -> Self {
        Self {
            raw,
            database,
            failed: false,
            handed_out: false,
            patience,
            spent: false,
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
    /// Returns [`ShardError::Connect`], [`ShardError::Unique`], [`ShardError::Busy`]
    /// or [`ShardError::Statement`].
    pub async fn execute(&mut self, statement: Statement) -> Result<u64, ShardError> {
        let failed = std::mem::replace(&mut self.failed, true);
        let done: Result<u64, ShardError> = answered!(self, execute, statement);
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
        let rows: Result<Vec<Row>, ShardError> = answered!(self, fetch_all, statement);
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
        let row: Result<Option<Row>, ShardError> = answered!(self, fetch_optional, statement);
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

    /// Runs several statements without parameters, separated by `;`, for as
    /// long as they take.
    pub(crate) async fn run_script(&mut self, script: &'static str) -> Result<(), ShardError> {
        let patience = std::mem::replace(&mut self.patience, Duration::MAX);
        let done: Result<(), ShardError> = answered!(self, run_script, script);
        self.patience = patience;
        done
    }

    pub(crate) async fn begin(&mut self) -> Result<(), ShardError> {
        answered!(self, begin)
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
        answered!(self, commit)
    }

    pub(crate) async fn rollback(&mut self) -> Result<(), ShardError> {
        answered!(self, rollback)
    }

    pub(crate) fn close_on_drop(&mut self) {
        match &mut self.raw {
            #[cfg(feature = "postgres")]
            RawConn::Postgres(_) => self.spent = true,
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

impl Drop for Conn {
    fn drop(&mut self) {
        #[cfg(feature = "postgres")]
        if let RawConn::Postgres(conn) = &mut self.raw {
            if self.spent {
                // The pool would wait for the answer, however long, and keep its place meanwhile.
                conn.close_on_drop();
            } else {
                crate::engine::postgres::give_back(conn);
            }
        }
    }
}
