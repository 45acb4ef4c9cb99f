//! What both engines share: sqlx's errors, and parameters.

use std::borrow::Cow;
use std::sync::Arc;

use sqlx::{AssertSqlSafe, SqlSafeStr, SqlStr};

use crate::error::ShardError;

/// Sorts a driver's error by what the caller can do about it.
pub(crate) fn error(database: &Arc<str>, source: sqlx::Error) -> ShardError {
    use sqlx::Error as E;
    let database = database.clone();
    let unreachable = match &source {
        E::Io(_) | E::Tls(_) | E::PoolTimedOut | E::PoolClosed | E::WorkerCrashed => true,
        // 57P0x: the server is going away; 08: connection; 53300: no slot left;
        // 25P03: it idled in a transaction and was disconnected;
        // 25006: a standby, before or after a failover.
        E::Database(error) => error.code().is_some_and(|code| {
            code.starts_with("57P0")
                || code.starts_with("08")
                || matches!(&*code, "53300" | "25P03" | "25006")
        }),
        _ => false,
    };
    let busy = matches!(&source, E::Database(error) if error.code().is_some_and(|c| is_busy(&c)));
    let unique = matches!(&source, E::Database(error) if error.is_unique_violation());
    let source = source.into();
    if unreachable {
        ShardError::Connect { database, source }
    } else if unique {
        ShardError::Unique { database, source }
    } else if busy {
        ShardError::Busy { database, source }
    } else {
        ShardError::Statement { database, source }
    }
}

/// Lock and statement timeouts, deadlocks and lost serialisations.
fn is_busy(code: &str) -> bool {
    match code {
        "55P03" | "57014" | "40001" | "40P01" => true,
        // SQLite's codes have fewer digits; the low byte is BUSY or LOCKED.
        _ if code.len() < 5 => code.parse().is_ok_and(|c: u32| matches!(c & 0xff, 5 | 6)),
        _ => false,
    }
}

/// A text that is ours, or made by us.
pub(crate) fn text(text: Cow<'static, str>) -> SqlStr {
    match text {
        Cow::Borrowed(text) => text.into_sql_str(),
        Cow::Owned(text) => AssertSqlSafe(text).into_sql_str(),
    }
}

/// Binds our values to a sqlx query of either engine.
macro_rules! bound {
    ($statement:expr, $engine:expr) => {{
        let mut query = sqlx::query($statement.driven($engine));
        for value in $statement.values {
            query = match value {
                crate::sql::Value::Uuid(v) => query.bind(v),
                crate::sql::Value::I64(v) => query.bind(v),
                crate::sql::Value::F64(v) => query.bind(v),
                crate::sql::Value::Bool(v) => query.bind(v),
                crate::sql::Value::Text(v) => query.bind(v),
                crate::sql::Value::Bytes(v) => query.bind(v),
                crate::sql::Value::Ints(v) => query.bind(ints(&v)),
            };
        }
        query
    }};
}

/// The verbs of one engine, for `Conn` to dispatch to.
///
/// The last argument says whether a connection keeps prepared statements.
macro_rules! verbs {
    ($db:ty, $pooled:ty, $engine:expr, $variant:ident, |$conn:ident| $keeps:expr) => {
        pub(super) type Manager = <$db as sqlx::Database>::TransactionManager;
        type Query = sqlx::query::Query<'static, $db, <$db as sqlx::Database>::Arguments>;

        fn query($conn: &$pooled, statement: Statement) -> Query {
            bound!(statement, $engine).persistent($keeps)
        }

        pub(crate) async fn execute(
            conn: &mut $pooled,
            database: &Arc<str>,
            statement: Statement,
        ) -> Result<u64, ShardError> {
            let done = query(conn, statement).execute(&mut **conn).await;
            done.map(|done| done.rows_affected())
                .map_err(|e| driver::error(database, e))
        }

        pub(crate) async fn fetch_all(
            conn: &mut $pooled,
            database: &Arc<str>,
            statement: Statement,
        ) -> Result<Vec<Row>, ShardError> {
            let rows = query(conn, statement).fetch_all(&mut **conn).await;
            let rows = rows.map_err(|e| driver::error(database, e))?;
            Ok(rows.into_iter().map(|r| Row(RawRow::$variant(r))).collect())
        }

        pub(crate) async fn pour<T: Send>(
            conn: &mut $pooled,
            database: &Arc<str>,
            statement: Statement,
            into: &mut crate::sql::conn::Pour<T>,
        ) -> Result<bool, ShardError> {
            let rows = query(conn, statement).fetch(&mut **conn);
            into.take(database, rows, |row| Row(RawRow::$variant(row)))
                .await
        }

        pub(crate) async fn run_script(
            conn: &mut $pooled,
            database: &Arc<str>,
            script: Cow<'static, str>,
        ) -> Result<(), ShardError> {
            let done = sqlx::raw_sql(driver::text(script))
                .execute(&mut **conn)
                .await;
            done.map(|_| ()).map_err(|e| driver::error(database, e))
        }

        pub(crate) async fn begin(
            conn: &mut $pooled,
            database: &Arc<str>,
            begin: Cow<'static, str>,
        ) -> Result<(), ShardError> {
            let begun = Manager::begin(&mut **conn, Some(driver::text(begin))).await;
            begun.map_err(|e| driver::error(database, e))
        }

        /// Sets a savepoint, which commit and rollback then mean.
        pub(crate) async fn nest(
            conn: &mut $pooled,
            database: &Arc<str>,
        ) -> Result<(), ShardError> {
            let begun = Manager::begin(&mut **conn, None).await;
            begun.map_err(|e| driver::error(database, e))
        }

        pub(crate) async fn commit(
            conn: &mut $pooled,
            database: &Arc<str>,
        ) -> Result<(), ShardError> {
            let done = Manager::commit(&mut **conn).await;
            done.map_err(|e| driver::error(database, e))
        }

        pub(crate) async fn rollback(
            conn: &mut $pooled,
            database: &Arc<str>,
        ) -> Result<(), ShardError> {
            let done = Manager::rollback(&mut **conn).await;
            done.map_err(|e| driver::error(database, e))
        }

        /// How many transactions and savepoints are open, as the driver counts.
        pub(crate) fn depth(conn: &$pooled) -> usize {
            Manager::get_transaction_depth(conn)
        }
    };
}

pub(crate) use {bound, verbs};
