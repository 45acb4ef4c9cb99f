//! PostgreSQL: connections whose every setting comes from the URL.

mod budget;
pub(crate) mod capabilities;
mod check;
mod connect;
mod listen;
mod look;
mod plain;
mod pool;
mod url;

use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt;
use sqlx::Either;
use sqlx_core::transaction::TransactionManager;

use super::driver;
use crate::database::DatabaseOptions;
use crate::database::pulse::Pulse;
use crate::error::ShardError;
use crate::sql::row::RawRow;
use crate::sql::{Engine, Row, Sql, Statement, Watermark};

pub(crate) use budget::Budget;
pub(crate) use check::{acquire, note};
use connect::Connector;
pub(crate) use connect::LOOK_FOR_CLIENT;
pub(crate) use listen::Announcements;
pub(crate) use look::{Look, Lookout};
pub(crate) use plain::{begin, commit, depth, nest, pour, rollback, run_script};

pub(crate) use pool::{Left, Pool, Pooled};
pub(crate) use url::Pooler;

/// A pool that connects when first used.
pub(crate) fn pool(
    database: &Arc<str>,
    url: &str,
    options: &DatabaseOptions,
    budget: Budget,
) -> Result<Pool, ShardError> {
    let (connect, pooler) = url::connect_options(url).map_err(|why| ShardError::Url {
        database: database.clone(),
        why,
    })?;
    let connect = Connector::new(connect, pooler, options);
    let check = check::of(connect.clone(), options.check_timeout);
    let pulse = Pulse::new(database.clone(), check);
    Ok(Pool::new(connect, pooler, options, budget, pulse))
}

/// The server's own limits, as it names and writes them.
pub(crate) fn limits(options: &DatabaseOptions) -> [(&'static str, String); 3] {
    let millis = |limit: Duration| limit.as_millis().to_string();
    [
        ("statement_timeout", millis(options.statement_timeout)),
        ("lock_timeout", millis(options.lock_timeout)),
        (
            "idle_in_transaction_session_timeout",
            millis(options.idle_in_transaction),
        ),
    ]
}

/// Connects once, past the pool: a pool would try again and hide the cause.
pub(crate) async fn reach(database: &Arc<str>, pool: &Pool) -> Result<(), ShardError> {
    let reached = pool.reach().await;
    reached.map_err(|e| driver::error(database, e))
}

/// A verb of [`plain`] whose messages all reach one session of the server.
///
/// A pooler that knows no prepared statements may give each message of a single
/// statement to another session, but not those of a transaction.
macro_rules! whole {
    ($verb:ident, $gives:ty) => {
        pub(crate) async fn $verb(
            conn: &mut Pooled,
            database: &Arc<str>,
            statement: Statement,
        ) -> Result<$gives, ShardError> {
            if conn.pooler() != Pooler::Unprepared || depth(conn) > 0 {
                return plain::$verb(conn, database, statement).await;
            }
            begin(conn, database, "BEGIN".into()).await?;
            let mut done = plain::$verb(conn, database, statement).await;
            if done.is_ok()
                && let Err(error) = commit(conn, database).await
            {
                done = Err(error);
            }
            if done.is_err() {
                rollback(conn, database).await?;
            }
            done
        }
    };
}

whole!(execute, u64);
whole!(fetch_all, Vec<Row>);
whole!(fetch_optional, Option<Row>);

/// How far the server has come: no less than anything that was seen there before.
///
/// What a standby is just replaying may be seen before it is counted. Whoever waits
/// for one byte more waits for the end of that record. It is one that was received.
pub(crate) const POSITION: Sql = Sql::both(
    "SELECT CASE WHEN pg_is_in_recovery()
        THEN replayed - '0/0'::pg_lsn + CASE WHEN replayed = received THEN 0 ELSE 1 END
        ELSE pg_current_wal_insert_lsn() - '0/0'::pg_lsn END::text AS position,
    CASE WHEN pg_is_in_recovery()
        THEN to_hex(greatest((SELECT timeline_id FROM pg_control_checkpoint()),
            (SELECT min_recovery_end_timeline FROM pg_control_recovery())))
        ELSE left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) END AS timeline
    FROM (SELECT pg_last_wal_replay_lsn() AS replayed, pg_last_wal_receive_lsn() AS received) AS at",
);

/// Makes sqlx's count right after a transaction was ended past it. The connection
/// is in doubt afterwards: a ROLLBACK waits to be sent.
pub(crate) fn forget(conn: &mut Pooled) {
    plain::Manager::start_rollback(conn);
}

/// Commits, and brings what a replica must have read to show it, and all that was
/// seen before.
///
/// The chained transaction is there to be rolled back: sqlx counts open
/// transactions, and no other way makes its count right without another message.
///
/// None if the server committed and told no position. The connection is in
/// doubt afterwards: a ROLLBACK waits to be sent.
pub(crate) async fn commit_marked(
    conn: &mut Pooled,
    database: &Arc<str>,
) -> Result<Option<Watermark>, ShardError> {
    let text = format!("COMMIT AND CHAIN; {}", POSITION.text(Engine::Postgres));
    let commit = driver::text(text.into());
    let mut answers = sqlx::raw_sql(commit).fetch_many(&mut **conn);
    let (mut committed, mut mark) = (false, None);
    loop {
        match answers.try_next().await {
            Ok(Some(Either::Left(_))) => committed = true,
            Ok(Some(Either::Right(row))) => mark = watermark(&Row(RawRow::Postgres(row))),
            Ok(None) => break,
            Err(error) if committed => {
                tracing::debug!(database = &**database, %error, "committed without a watermark");
                break;
            }
            Err(error) => return Err(driver::error(database, error)),
        }
    }
    drop(answers);
    forget(conn);
    Ok(mark)
}

/// Reads the answer to [`POSITION`]; a standby that has replayed nothing has none.
pub(crate) fn watermark(row: &Row) -> Option<Watermark> {
    let text = |column| row.get::<Option<String>>(column).ok().flatten();
    let timeline = u32::from_str_radix(&text("timeline")?, 16).ok()?;
    Some(Watermark::new(timeline, text("position")?.parse().ok()?))
}
