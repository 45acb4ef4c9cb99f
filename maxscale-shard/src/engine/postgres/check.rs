//! What a connection, or a try to have one, says of the server.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use maxscale_core::Chain;
use sqlx::{Connection, Error};
use tokio::time::timeout;

use super::connect::Connector;
use super::driver;
use super::pool::{Pool, Pooled};
use crate::database::Lane;
use crate::database::pulse::{Check, Pulse};
use crate::engine::verdict;
use crate::error::ShardError;

/// What an error says of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sign {
    /// It answered.
    Well,
    /// Nothing.
    None,
    /// It may be away, or whoever speaks for it.
    Doubt,
    /// It is not there.
    Away,
}

/// Connects on its own, past the pool, and asks for a sign of life.
pub(super) fn of(connect: Connector, limit: Duration) -> Check {
    Box::new(move || {
        let connect = connect.clone();
        Box::pin(async move {
            let asked = async {
                let mut conn = connect.connect().await?;
                conn.ping().await?;
                Ok(conn)
            };
            match timeout(limit, asked).await {
                Ok(Ok(conn)) => {
                    let _ = timeout(limit, conn.close()).await;
                    None
                }
                // Nobody has sent it anything that may be refused as such.
                Ok(Err(error)) if matches!(sign(&error), Sign::Doubt | Sign::Away) => {
                    Some(Chain(&error).to_string())
                }
                Ok(Err(_)) => None,
                Err(_) => Some(format!("no answer to a check within {limit:?}")),
            }
        })
    })
}

/// A connection of the pool, unless the server is known to be away.
pub(crate) async fn acquire(
    database: &Arc<str>,
    pool: &Pool,
    lane: Lane,
) -> Result<Pooled, ShardError> {
    let pulse = pool.pulse();
    match pulse.admit(pin!(pool.acquire(lane))).await {
        Ok(Ok(conn)) => Ok(conn),
        Ok(Err(error)) => {
            if sign(&error) == Sign::Away {
                pulse.failed(Chain(&error).to_string());
            }
            Err(driver::error(database, error))
        }
        Err(down) => Err(ShardError::Connect {
            database: database.clone(),
            source: down.into(),
        }),
    }
}

/// Takes note of what a statement's answer says of the server.
pub(crate) fn note<T>(pulse: &Arc<Pulse>, answer: &Result<T, ShardError>) {
    let Err(error) = answer else {
        return pulse.heard();
    };
    let source = match error {
        ShardError::Connect { source, .. } | ShardError::Statement { source, .. } => source,
        ShardError::Unique { .. } | ShardError::Busy { .. } => return pulse.heard(),
        _ => return,
    };
    if verdict::code(source).is_some_and(|code| code == "25006") {
        pulse.role_doubted().notify_one();
    }
    match source.downcast_ref().map_or(Sign::None, sign) {
        Sign::Well => pulse.heard(),
        Sign::None => {}
        Sign::Doubt => pulse.doubt(),
        Sign::Away => pulse.failed(Chain(&**source).to_string()),
    }
}

fn sign(error: &Error) -> Sign {
    match error {
        Error::Io(error) if is_ours(error) => Sign::None,
        Error::Io(_) => Sign::Away,
        Error::Database(error) => match error.code().as_deref() {
            // It stops, has crashed, or does not accept connections yet.
            Some("57P01" | "57P02" | "57P03") => Sign::Away,
            // A statement with too few parameters, and whatever PgBouncer has to say.
            Some("08P01") => Sign::Doubt,
            Some(code) if code.starts_with("08") => Sign::Away,
            _ => Sign::Well,
        },
        _ => Sign::None,
    }
}

/// Whether this process lacks something: files, memory, ports.
fn is_ours(error: &io::Error) -> bool {
    use io::ErrorKind as K;
    let known = matches!(
        error.kind(),
        K::ConnectionRefused
            | K::ConnectionReset
            | K::ConnectionAborted
            | K::NotConnected
            | K::BrokenPipe
            | K::TimedOut
            | K::HostUnreachable
            | K::NetworkUnreachable
            | K::NetworkDown
    );
    // The end of a stream and a name that nobody knows are no errors of the system.
    !known && error.raw_os_error().is_some()
}
