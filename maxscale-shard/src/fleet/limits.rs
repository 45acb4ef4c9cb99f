//! Limits that a session behind a pooler cannot set for itself, kept with its role.

use maxscale_core::Chain;

use crate::database::Database;
use crate::error::ShardError;
use crate::migrate::LOCK;
use crate::sql::{Sql, sql};

/// What is set for a role in this database.
const STORED: Sql = Sql::both(
    "SELECT setting FROM pg_catalog.pg_db_role_setting AS s
     JOIN pg_catalog.pg_roles AS r ON r.oid = s.setrole
     JOIN pg_catalog.pg_database AS d ON d.oid = s.setdatabase,
     unnest(s.setconfig) AS setting
     WHERE d.datname = current_database() AND r.rolname = $1",
);

/// Names are quoted by who knows how.
const SUBJECT: Sql =
    Sql::both("SELECT format('ALTER ROLE %I IN DATABASE %I', $1, current_database()) AS text");

/// Makes the server's limits those of the role that `database` connects as,
/// where a pooler stands before it. Sessions that begin from then on have them.
///
/// Each transaction sets them for itself all the same. Where they cannot be
/// set, single statements are bounded by the client alone, and the log says so.
pub(super) async fn keep(
    database: &Database,
    admin: &Database,
    may_alter: bool,
) -> Result<(), ShardError> {
    let limits = database.limits_in_transactions();
    if limits.is_empty() {
        return Ok(());
    }
    let role = sql("SELECT session_user::text AS role");
    let role = database.writer().await?.fetch_one(role).await?;
    let role: String = role.get("role")?;
    let mut conn = admin.writer().await?;
    let mut stored = Vec::new();
    for row in conn
        .fetch_all(STORED.statement().bind(role.as_str()))
        .await?
    {
        stored.push(row.get::<String>("setting")?);
    }
    let subject = SUBJECT.statement().bind(role.as_str());
    let subject: String = conn.fetch_one(subject).await?.get("text")?;
    drop(conn);
    let missing: Vec<String> = (limits.iter())
        .filter(|(name, value)| !stored.contains(&format!("{name}={value}")))
        .map(|(name, value)| format!("{subject} SET {name} = {value}"))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let script = missing.join("; ");
    let refused = if may_alter {
        match alter(admin, script.clone()).await {
            Ok(()) => return Ok(()),
            Err(error) if error.may_pass() => return Err(error),
            Err(error) => Some(Chain(&error).to_string()),
        }
    } else {
        None
    };
    tracing::warn!(
        database = database.name(),
        error = refused,
        script,
        "behind the pooler the server does not bound single statements; \
         somebody who may has to run the script"
    );
    Ok(())
}

/// One process at a time: two that alter the same role fail.
async fn alter(admin: &Database, script: String) -> Result<(), ShardError> {
    let mut tx = admin.begin().await?;
    tx.execute(LOCK.statement()).await?;
    tx.run_script(script).await?;
    tx.commit().await.map(drop)
}
