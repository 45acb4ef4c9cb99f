use std::borrow::Cow;
use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use maxscale_core::fact::Deadline;
use maxscale_core::meter::span;
use tokio::time::Instant;
use tracing::{Instrument as _, Span};

use crate::database::pulse::{Pulse, answer_within};
use crate::engine::verdict;
use crate::error::ShardError;
use crate::sql::{Engine, Row, Statement};
use crate::telemetry::{self, Counts};

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
    pub(super) counts: Counts,
    // PostgreSQL answers the COMMIT of a failed transaction with ROLLBACK and no error.
    // Also true while a statement runs: if it is dropped, nobody knows whether it failed.
    pub(super) failed: bool,
    // Statements past this handle fail unseen.
    pub(super) handed_out: bool,
    // How long a statement may stay without an answer, and until when.
    patience: Duration,
    deadline: Option<Deadline>,
    // Whether the server answers; none for a file.
    pulse: Option<Arc<Pulse>>,
    // A statement failed because of another transaction.
    pub(super) raced: bool,
    // Something waits to be sent or read.
    unsure: bool,
    // Nobody may use it again: a statement is under way or was given up, or a
    // transaction is open.
    spent: bool,
}

#[derive(Debug)]
pub(crate) enum RawConn {
    #[cfg(feature = "postgres")]
    Postgres(crate::engine::postgres::Pooled),
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
        let (patience, in_time) = $self.patience();
        let (began, operation) = ($self.counts.begin(), telemetry::operation(stringify!($method)));
        let span = $self.span(operation);
        let answer = {
            let answer = pin!(async { dispatch!($self, $method $(, $arg)*) });
            let answer = answer_within($self.pulse.as_ref(), patience, answer);
            answer.instrument(span.clone()).await
        };
        let answer = match answer {
            Some(answer) => {
                $self.answered(&answer);
                answer
            }
            None => Err($self.unanswered(patience, in_time)),
        };
        let error = answer.as_ref().err();
        if let Some(error) = error {
            maxscale_core::meter::span::failed(&span, telemetry::error_type(error));
        }
        $self.counts.operated(began, operation, error);
        answer
    }};
}

mod position;
mod pour;
mod transaction;

pub(crate) use pour::Pour;

// === impl Conn ===

impl Conn {
    pub(crate) const fn new(
        raw: RawConn,
        database: Arc<str>,
        patience: Duration,
        counts: Counts,
        pulse: Option<Arc<Pulse>>,
    ) -> Self {
        Self {
            raw,
            database,
            counts,
            failed: false,
            handed_out: false,
            patience,
            deadline: None,
            pulse,
            raced: false,
            unsure: false,
            spent: false,
        }
    }

    /// Bounds each statement from now on: one that has no answer by then is
    /// given up, and costs the connection.
    pub const fn set_deadline(&mut self, deadline: Deadline) {
        self.deadline = Some(deadline);
    }

    /// How long to wait for an answer, and whether it is the server's own limit
    /// that passes first.
    fn patience(&self) -> (Duration, bool) {
        let left = |deadline: Deadline| deadline.instant() - Instant::now();
        match self.deadline.map(left) {
            Some(left) if left < self.patience => (left, false),
            _ => (self.patience, true),
        }
    }

    /// The span around one call of the database.
    fn span(&self, operation: &'static str) -> Span {
        let system = telemetry::system(self.engine());
        span::database(system, &self.database, operation)
    }

    /// Takes note of an answer.
    fn answered<T>(&mut self, answer: &Result<T, ShardError>) {
        let error = answer.as_ref().err();
        // Another connection may lead to a server that is well.
        self.spent = error.is_some_and(ShardError::is_unreachable);
        self.raced |= error.is_some_and(verdict::lost_race);
        #[cfg(feature = "postgres")]
        if let RawConn::Postgres(conn) = &mut self.raw {
            conn.hear();
        }
        #[cfg(feature = "postgres")]
        if let Some(pulse) = &self.pulse {
            crate::engine::postgres::note(pulse, answer);
        }
    }

    fn unanswered(&self, waited: Duration, in_time: bool) -> ShardError {
        let database = self.database.clone();
        if in_time {
            let source = format!("no answer within {waited:?}").into();
            ShardError::Connect { database, source }
        } else {
            ShardError::Deadline { database }
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

    /// Runs a statement and hands its rows on. False if nobody takes them any
    /// more; then some wait to be read.
    pub(crate) async fn pour<T: Send>(
        &mut self,
        statement: Statement,
        into: &mut Pour<T>,
    ) -> Result<bool, ShardError> {
        let failed = std::mem::replace(&mut self.failed, true);
        // Whoever takes the rows may be slow.
        let patience = std::mem::replace(&mut self.patience, Duration::MAX);
        let done: Result<bool, ShardError> = answered!(self, pour, statement, into);
        self.patience = patience;
        self.failed = failed || !matches!(done, Ok(true));
        done
    }

    /// Runs several statements without parameters, separated by `;`, for as
    /// long as they take.
    pub(crate) async fn run_script(
        &mut self,
        script: impl Into<Cow<'static, str>>,
    ) -> Result<(), ShardError> {
        let script = script.into();
        let patience = std::mem::replace(&mut self.patience, Duration::MAX);
        let done: Result<(), ShardError> = answered!(self, run_script, script);
        self.patience = patience;
        done
    }

    /// Runs one command that stands outside of any transaction.
    pub(crate) async fn run_alone(&mut self, command: String) -> Result<(), ShardError> {
        let command: Cow<'static, str> = Cow::Owned(command);
        answered!(self, run_script, command)
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
            RawConn::Sqlite(conn) => {
                self.handed_out = true;
                Some(conn)
            }
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
            use crate::engine::postgres::{Left, depth};

            // Somebody forgot to end what was begun past this handle.
            let forgotten = self.handed_out && depth(conn) > 0;
            conn.leave(if self.spent || forgotten {
                Left::Spent
            } else if self.failed || self.handed_out || self.unsure {
                Left::Unsure
            } else {
                Left::Clean
            });
        }
    }
}
