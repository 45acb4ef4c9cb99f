//! Forward-only migrations, each set under its owner's name.
//!
//! A database's pending migrations run in one transaction under a lock, so
//! several processes may start at once and each step runs once. A migration
//! that was edited after it ran is an error.

use maxscale_core::BoxError;
use sha2::{Digest, Sha256};

use crate::database::Database;
use crate::error::ShardError;
use crate::sql::{Conn, Engine, Sql, Tx, sql};

/// One step of a schema, for both engines.
#[derive(Clone, Copy, Debug)]
pub struct Migration {
    /// Counts from 1 within the set.
    pub version: u32,
    /// What the step brings.
    pub name: &'static str,
    /// The statements for PostgreSQL.
    pub postgres: &'static str,
    /// The statements for SQLite.
    pub sqlite: &'static str,
}

/// The steps of one crate or application.
#[derive(Clone, Copy, Debug)]
pub struct MigrationSet {
    /// Whose tables these are; part of the ledger's key.
    pub owner: &'static str,
    /// The steps, in order.
    pub steps: &'static [Migration],
}

const LEDGER: &str = "CREATE TABLE IF NOT EXISTS ms_migration (
    owner text NOT NULL,
    version bigint NOT NULL,
    name text NOT NULL,
    checksum text NOT NULL,
    PRIMARY KEY (owner, version)
)";

/// Whether the ledger exists, so that a check writes nothing.
const HAS_LEDGER: Sql = Sql::each(
    "SELECT 1 AS present FROM pg_catalog.pg_tables
     WHERE tablename = 'ms_migration' AND schemaname = current_schema()",
    "SELECT 1 AS present FROM sqlite_master WHERE type = 'table' AND name = 'ms_migration'",
);

/// Held to the end of the transaction. The number is `maxscale` in ASCII.
pub(crate) const LOCK: Sql = Sql::each(
    "SELECT pg_advisory_xact_lock(7881706578037858405)",
    "SELECT 1",
);

/// DDL may outlast the timeouts of requests.
const NO_TIMEOUTS: Sql = Sql::each(
    "SELECT set_config('statement_timeout', '0', true), set_config('lock_timeout', '60s', true)",
    "SELECT 1",
);

/// Runs what is pending; gives the number of steps that ran.
///
/// While another process migrates, this is [`ShardError::Busy`] after the
/// connection's limit for locks. Only the steps themselves take as long as they
/// take: a server that hangs before or after them is given up.
pub(crate) async fn apply(database: &Database, sets: &[MigrationSet]) -> Result<usize, ShardError> {
    // Most starts have nothing to do, and then nothing to wait for.
    let mut conn = database.writer().await?;
    if unlocked(&mut conn, database, sets).await?.is_empty() {
        return Ok(0);
    }
    drop(conn);
    let mut tx = database.begin().await?;
    tx.execute(LOCK.statement()).await?;
    tx.execute(NO_TIMEOUTS.statement()).await?;
    tx.execute(sql(LEDGER)).await?;
    let mut ran = 0;
    for (set, step) in pending(&mut tx, database, sets).await? {
        run(&mut tx, database, set, step).await?;
        ran += 1;
    }
    tx.commit().await?;
    Ok(ran)
}

/// Names what is pending, as `owner/version name`, and changes nothing.
pub(crate) async fn check(
    database: &Database,
    sets: &[MigrationSet],
) -> Result<Vec<String>, ShardError> {
    let mut conn = database.writer().await?;
    let steps = unlocked(&mut conn, database, sets).await?;
    let names = steps.iter();
    Ok(names
        .map(|(set, step)| format!("{}/{} {}", set.owner, step.version, step.name))
        .collect())
}

/// What is pending as far as can be seen without the lock; changes nothing.
async fn unlocked<'a>(
    conn: &mut Conn,
    database: &Database,
    sets: &'a [MigrationSet],
) -> Result<Vec<Step<'a>>, ShardError> {
    if conn.fetch_optional(HAS_LEDGER.statement()).await?.is_none() {
        return Ok(all(sets).collect());
    }
    pending(conn, database, sets).await
}

type Step<'a> = (&'a MigrationSet, &'a Migration);

fn all(sets: &[MigrationSet]) -> impl Iterator<Item = Step<'_>> {
    sets.iter()
        .flat_map(|set| set.steps.iter().map(move |step| (set, step)))
}

async fn pending<'a>(
    conn: &mut Conn,
    database: &Database,
    sets: &'a [MigrationSet],
) -> Result<Vec<Step<'a>>, ShardError> {
    let rows = sql("SELECT owner, version, checksum FROM ms_migration");
    let mut done = Vec::new();
    for row in conn.fetch_all(rows).await? {
        let (owner, version): (String, i64) = (row.get("owner")?, row.get("version")?);
        done.push((owner, version, row.get::<String>("checksum")?));
    }
    let mut steps = Vec::new();
    for (set, step) in all(sets) {
        let ran = done
            .iter()
            .find(|(owner, version, _)| owner == set.owner && *version == i64::from(step.version));
        match ran {
            None => steps.push((set, step)),
            Some((_, _, sum)) if *sum == checksum(step) => {}
            Some(_) => return Err(failed(database, set, step, "was edited after it ran", None)),
        }
    }
    Ok(steps)
}

async fn run(
    tx: &mut Tx,
    database: &Database,
    set: &MigrationSet,
    step: &Migration,
) -> Result<(), ShardError> {
    let script = match tx.engine() {
        Engine::Postgres => step.postgres,
        Engine::Sqlite => step.sqlite,
    };
    tx.run_script(script).await.map_err(|error| match error {
        ShardError::Statement { source, .. } | ShardError::Unique { source, .. } => {
            failed(database, set, step, "failed", Some(source))
        }
        other => other,
    })?;
    let noted =
        sql("INSERT INTO ms_migration (owner, version, name, checksum) VALUES ($1, $2, $3, $4)")
            .bind(set.owner)
            .bind(step.version)
            .bind(step.name)
            .bind(checksum(step));
    tx.execute(noted).await?;
    tracing::info!(
        database = database.name(),
        owner = set.owner,
        version = step.version,
        name = step.name,
        "migrated"
    );
    Ok(())
}

fn checksum(step: &Migration) -> String {
    let mut hash = Sha256::new();
    hash.update(step.postgres);
    hash.update([0]);
    hash.update(step.sqlite);
    let digest: [u8; 32] = hash.finalize().into();
    digest[..16]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn failed(
    database: &Database,
    set: &MigrationSet,
    step: &Migration,
    why: &str,
    source: Option<BoxError>,
) -> ShardError {
    ShardError::Migration {
        database: database.name().into(),
        why: format!("{}/{} {} {why}", set.owner, step.version, step.name),
        source,
    }
}
