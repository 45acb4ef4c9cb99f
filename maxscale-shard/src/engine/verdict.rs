//! What an error says about the transaction that it ended.

use std::borrow::Cow;

use maxscale_core::BoxError;

use crate::error::ShardError;
use crate::sql::TxId;

/// The error of a COMMIT that ended in `error`: only an answer of the database
/// says what became of it.
pub(crate) fn of_commit(tx: Option<&TxId>, error: ShardError) -> ShardError {
    let (database, source) = match error {
        ShardError::Connect { database, source } => (database, source),
        ShardError::Deadline { database } => (database, "the deadline passed".into()),
        ShardError::Statement { database, source } if code(&source).is_none() => (database, source),
        answered => return answered,
    };
    // It idled for too long, and was undone before anybody asked to commit it.
    if code(&source).is_some_and(|code| code == "25P03") {
        return ShardError::Connect { database, source };
    }
    ShardError::OutcomeUnknown {
        database,
        tx: tx.cloned(),
        source,
    }
}

/// Whether there was no place for a connection, or none was made in time.
pub(crate) fn no_connection_in_time(error: &ShardError) -> bool {
    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    if let ShardError::Connect { source, .. } = error {
        return matches!(source.downcast_ref(), Some(sqlx::Error::PoolTimedOut));
    }
    let _ = error;
    false
}

/// Whether a transaction was in another one's way, and may go well the next time.
pub(crate) fn lost_race(error: &ShardError) -> bool {
    let ShardError::Busy { source, .. } = error else {
        return false;
    };
    code(source).is_some_and(|code| matches!(&*code, "40001" | "40P01"))
}

/// Whether another server of the node may give what one did not: that one is away,
/// or cancelled what was in the way of its replay.
pub(crate) fn passed_over(error: &ShardError) -> bool {
    error.is_unreachable() || lost_race(error)
}

/// The code of an error that is the database's own.
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub(crate) fn code(source: &BoxError) -> Option<Cow<'_, str>> {
    match source.downcast_ref()? {
        sqlx::Error::Database(error) => Some(error.code().unwrap_or_default()),
        _ => None,
    }
}

/// Without an engine there is no such error.
#[cfg(not(any(feature = "postgres", feature = "sqlite")))]
pub(crate) fn code(_: &BoxError) -> Option<Cow<'_, str>> {
    None
}
