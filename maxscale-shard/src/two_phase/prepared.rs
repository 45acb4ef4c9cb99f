//! Prepared transactions, as their server knows them.

use std::time::Duration;

use super::gid::Gid;
use crate::database::Database;
use crate::engine::verdict;
use crate::error::ShardError;
use crate::sql::Sql;

/// Those of this database whose names begin as ours do.
const PREPARED: Sql = Sql::both(
    "SELECT gid, (extract(epoch from clock_timestamp() - prepared) * 1000000)::bigint AS age
     FROM pg_prepared_xacts WHERE database = current_database() AND gid LIKE 'ms:%'",
);

/// One that waits on a server.
#[derive(Clone, Debug)]
pub(super) struct Prepared {
    /// `None` if its name is not as this version writes it.
    pub(super) gid: Option<Gid>,
    pub(super) age: Duration,
}

/// What waits on a database.
pub(super) async fn list(database: &Database) -> Result<Vec<Prepared>, ShardError> {
    let rows = database.execute_returning(PREPARED.statement()).await?;
    let mut found = Vec::new();
    for row in rows {
        let (gid, age): (String, i64) = (row.get("gid")?, row.get("age")?);
        found.push(Prepared {
            gid: gid.parse().ok(),
            age: Duration::from_micros(u64::try_from(age).unwrap_or(0)),
        });
    }
    Ok(found)
}

/// Ends a prepared transaction. One that is not there was ended before: nobody
/// else ends it otherwise.
pub(super) async fn end(database: &Database, gid: &Gid, commit: bool) -> Result<(), ShardError> {
    let verb = if commit { "COMMIT" } else { "ROLLBACK" };
    let ended = async {
        let mut conn = database.writer().await?;
        // Not as a statement, which some poolers get a transaction around.
        conn.run_alone(format!("{verb} PREPARED '{gid}'")).await
    };
    match ended.await {
        Err(ShardError::Statement { source, .. })
            if verdict::code(&source).is_some_and(|code| code == "42704") =>
        {
            Ok(())
        }
        ended => ended,
    }
}
