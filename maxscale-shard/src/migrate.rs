//! Forward-only migrations, each set under its owner's name.
//!
//! A database's pending migrations run in one transaction under a lock, so
//! several processes may start at once and each step runs once. A migration
//! that was edited after it ran is an error. What may not run in a transaction
//! is marked so, and runs by itself ([`apart`]).

mod apart;
pub(crate) mod shape;

use std::fmt;

use maxscale_core::BoxError;
use sha2::{Digest, Sha256};

use crate::database::Database;
use crate::error::ShardError;
use crate::sql::{Conn, Engine, Sql, Tx, sql};
use shape::Shape;

/// One step of a schema, for both engines.
///
/// The steps of a start run in one transaction. A text for PostgreSQL whose
/// first line is `-- no-transaction` runs by itself instead, for what PostgreSQL
/// refuses inside one, as `CREATE INDEX CONCURRENTLY`. It is one statement, and
/// one that may run again after a crash: an index has to be made `IF NOT EXISTS`,
/// and one that a crash left invalid is dropped and built anew. It needs a
/// connection past a pooler.
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

/// A step and its set. Displays as `owner/version name`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    pub(crate) set: MigrationSet,
    pub(crate) step: Migration,
}

/// What a database's ledger says beside the sets of this program.
#[derive(Debug)]
pub(crate) struct Standing {
    /// What has not run, in order.
    pub(crate) pending: Vec<Step>,
    /// What ran and is unknown to this program, as `owner/version name`.
    pub(crate) newer: Vec<String>,
}

const LEDGER: Sql = Sql::both(
    "CREATE TABLE IF NOT EXISTS ms_migration (
        owner text NOT NULL,
        version bigint NOT NULL,
        name text NOT NULL,
        checksum text NOT NULL,
        PRIMARY KEY (owner, version)
    )",
);

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

/// Runs what is pending; gives the steps that ran.
///
/// While another process migrates, this is [`ShardError::Busy`] after the
/// connection's limit for locks. Only the steps themselves take as long as they
/// take: a server that hangs before or after them is given up.
pub(crate) async fn apply(
    database: &Database,
    sets: &[MigrationSet],
) -> Result<Vec<Step>, ShardError> {
    let mut ran = Vec::new();
    loop {
        // Most starts have nothing to do, and then nothing to wait for.
        match pending(database, sets).await?.first() {
            None => return Ok(ran),
            Some(step) if step.is_apart(database.engine()) => {
                ran.extend(apart::run(database, *step).await?);
            }
            Some(_) => ran.extend(together(database, sets).await?),
        }
    }
}

/// Names what is pending, as `owner/version name`, and changes nothing.
pub(crate) async fn check(
    database: &Database,
    sets: &[MigrationSet],
) -> Result<Vec<String>, ShardError> {
    let pending = pending(database, sets).await?;
    Ok(pending.iter().map(ToString::to_string).collect())
}

/// Compares the ledger with `sets`; changes nothing.
pub(crate) async fn standing(
    conn: &mut Conn,
    database: &Database,
    sets: &[MigrationSet],
) -> Result<Standing, ShardError> {
    let there = conn.fetch_optional(HAS_LEDGER.statement()).await?;
    if there.is_some() {
        return read(conn, database, sets).await;
    }
    Ok(Standing {
        pending: checked(database, sets)?,
        newer: Vec::new(),
    })
}

/// What is pending as far as can be seen without the lock; changes nothing.
async fn pending(database: &Database, sets: &[MigrationSet]) -> Result<Vec<Step>, ShardError> {
    let mut conn = database.writer().await?;
    standing(&mut conn, database, sets)
        .await?
        .followed(database)
}

/// Runs the pending steps up to the first that may not run in a transaction.
async fn together(database: &Database, sets: &[MigrationSet]) -> Result<Vec<Step>, ShardError> {
    let mut tx = database.begin().await?;
    tx.execute(LOCK.statement()).await?;
    tx.execute(NO_TIMEOUTS.statement()).await?;
    tx.execute(LEDGER.statement()).await?;
    tx.execute(shape::RECORD.statement()).await?;
    let pending = read(&mut tx, database, sets).await?.followed(database)?;
    let before = shape::found(&mut tx).await?;
    let engine = tx.engine();
    let ran: Vec<Step> = (pending.into_iter())
        .take_while(|step| !step.is_apart(engine))
        .collect();
    for step in &ran {
        let done = tx.run_script(step.text(engine)).await;
        done.map_err(|error| step.refused(database, error))?;
        step.note(&mut tx).await?;
    }
    record(&mut tx, before, None).await?;
    tx.commit().await?;
    tell(database, &ran);
    Ok(ran)
}

/// Records what the steps of this transaction made of the tables as they were
/// `before`, which on the first record counts as made.
async fn record(tx: &mut Tx, before: Shape, index: Option<&str>) -> Result<(), ShardError> {
    let recorded = shape::recorded(tx).await?;
    let recorded = recorded.unwrap_or_else(|| before.clone());
    let after = shape::found(tx).await?;
    shape::record(tx, &recorded.after(&before, &after, index)).await
}

async fn read(
    conn: &mut Conn,
    database: &Database,
    sets: &[MigrationSet],
) -> Result<Standing, ShardError> {
    let mut steps = checked(database, sets)?;
    let rows =
        sql("SELECT owner, version, name, checksum FROM ms_migration ORDER BY owner, version");
    let mut newer = Vec::new();
    for row in conn.fetch_all(rows).await? {
        let (owner, version): (String, i64) = (row.get("owner")?, row.get("version")?);
        let is = |step: &Step| step.set.owner == owner && i64::from(step.step.version) == version;
        if let Some(at) = steps.iter().position(is) {
            let step = steps.remove(at);
            if row.get::<String>("checksum")? != step.checksum() {
                return Err(step.failed(database, "was edited after it ran", None));
            }
        } else if sets.iter().any(|set| set.owner == owner) {
            newer.push(format!("{owner}/{version} {}", row.get::<String>("name")?));
        }
    }
    Ok(Standing {
        pending: steps,
        newer,
    })
}

/// Every step; an error if one could not run, so that none is run before it.
pub(crate) fn checked(database: &Database, sets: &[MigrationSet]) -> Result<Vec<Step>, ShardError> {
    let steps: Vec<Step> = steps_of(sets).collect();
    for step in &steps {
        if step.is_apart(Engine::Postgres) {
            let checked = apart::check(step.step.postgres);
            checked.map_err(|why| step.failed(database, why, None))?;
        }
    }
    Ok(steps)
}

/// Every step of `sets`, in order.
pub(crate) fn steps_of(sets: &[MigrationSet]) -> impl Iterator<Item = Step> + '_ {
    let of = |set: &MigrationSet| {
        let set = *set;
        set.steps.iter().map(move |step| Step { set, step: *step })
    };
    sets.iter().flat_map(of)
}

fn tell(database: &Database, ran: &[Step]) {
    for Step { set, step } in ran {
        tracing::info!(
            database = database.name(),
            owner = set.owner,
            version = step.version,
            name = step.name,
            "migrated"
        );
    }
}

// === impl Standing ===

impl Standing {
    /// What is pending, if it follows on all that ran. An older program may start
    /// where a newer one migrated, but not migrate there.
    fn followed(self, database: &Database) -> Result<Vec<Step>, ShardError> {
        if self.pending.is_empty() {
            return Ok(self.pending);
        }
        self.known(database)
    }

    /// What is pending, if all that ran is known to this program.
    pub(crate) fn known(self, database: &Database) -> Result<Vec<Step>, ShardError> {
        if self.newer.is_empty() {
            return Ok(self.pending);
        }
        Err(ShardError::Newer {
            database: database.name().into(),
            steps: self.newer.join(", "),
        })
    }
}

// === impl Step ===

impl Step {
    pub(crate) const fn text(&self, engine: Engine) -> &'static str {
        match engine {
            Engine::Postgres => self.step.postgres,
            Engine::Sqlite => self.step.sqlite,
        }
    }

    /// Whether both are the same step of the same set.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.set.owner == other.set.owner && self.step.version == other.step.version
    }

    /// Whether it runs by itself, outside of a transaction.
    pub(crate) fn is_apart(&self, engine: Engine) -> bool {
        engine == Engine::Postgres && apart::marked(self.step.postgres)
    }

    async fn note(&self, tx: &mut Tx) -> Result<(), ShardError> {
        let noted = sql(
            "INSERT INTO ms_migration (owner, version, name, checksum) VALUES ($1, $2, $3, $4)",
        );
        let noted = noted.bind(self.set.owner).bind(self.step.version);
        let noted = noted.bind(self.step.name).bind(self.checksum());
        tx.execute(noted).await.map(drop)
    }

    fn checksum(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(self.step.postgres);
        hash.update([0]);
        hash.update(self.step.sqlite);
        let digest: [u8; 32] = hash.finalize().into();
        digest[..16]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }

    /// Names the step in what the database said of its text.
    fn refused(&self, database: &Database, error: ShardError) -> ShardError {
        match error {
            ShardError::Statement { source, .. } | ShardError::Unique { source, .. } => {
                self.failed(database, "failed", Some(source))
            }
            other => other,
        }
    }

    fn failed(&self, database: &Database, why: &str, source: Option<BoxError>) -> ShardError {
        ShardError::Migration {
            database: database.name().into(),
            why: format!("{self} {why}"),
            source,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { set, step } = self;
        write!(f, "{}/{} {}", set.owner, step.version, step.name)
    }
}
