//! The row that decides, on the shard of the first participant.
//!
//! It is written in that participant's own transaction, before any other one is
//! prepared. So while a prepared one exists anywhere, its row is there (committed),
//! or is being written (undecided), or never will be (rolled back): no row is
//! needed for "no".

use std::time::Duration;

use maxscale_core::fact::VirtualShard;
use maxscale_core::id::Id;

use crate::database::Database;
use crate::error::ShardError;
use crate::sql::{Row, Sql, Statement, Tx};

/// A transaction on several nodes, by which its outcome is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Decision {
    pub(super) shard: VirtualShard,
    pub(super) id: Id,
}

macro_rules! pg_now {
    () => {
        "(extract(epoch from statement_timestamp()) * 1000000)::bigint"
    };
}

macro_rules! sqlite_now {
    () => {
        "CAST(unixepoch('subsec') * 1000000 AS INTEGER)"
    };
}

macro_rules! note {
    ($now:expr) => {
        concat!(
            "INSERT INTO ms_decision (shard_id, id, finished, decided_at)
             VALUES ($1, $2, false, ",
            $now,
            ")"
        )
    };
}

const NOTE: Sql = Sql::each(note!(pg_now!()), note!(sqlite_now!()));

/// Waits for a transaction that is writing the row.
const PROBE: Sql = Sql::both(
    "INSERT INTO ms_decision (shard_id, id, finished, decided_at) VALUES ($1, $2, true, 0)
     ON CONFLICT (shard_id, id) DO NOTHING",
);

const FINISH: Sql =
    Sql::both("UPDATE ms_decision SET finished = true WHERE shard_id = $1 AND id = $2");

macro_rules! open {
    ($now:expr) => {
        concat!(
            "SELECT shard_id, id FROM ms_decision WHERE finished = $1 AND decided_at <= ",
            $now,
            " - $2 ORDER BY decided_at LIMIT $3"
        )
    };
}

/// Node-wide, by `ms_decision_age`: those of which a participant may be left.
const OPEN: Sql = Sql::each(open!(pg_now!()), open!(sqlite_now!()));

macro_rules! sweep {
    ($now:expr) => {
        concat!(
            "DELETE FROM ms_decision WHERE finished = $1 AND decided_at <= ",
            $now,
            " - $2"
        )
    };
}

/// Node-wide, by `ms_decision_age`: those that nobody asks for any more.
const SWEEP: Sql = Sql::each(sweep!(pg_now!()), sweep!(sqlite_now!()));

fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX / 2)
}

/// Committed ones older than `age` that may have a participant left.
pub(super) async fn open(
    database: &Database,
    age: Duration,
    limit: u32,
) -> Result<Vec<Decision>, ShardError> {
    let open = OPEN.statement().bind(false).bind(micros(age)).bind(limit);
    let rows = database.execute_returning(open).await?;
    rows.iter().map(Decision::read).collect()
}

/// Removes what has been finished, and is older than `age`.
pub(super) async fn sweep(database: &Database, age: Duration) -> Result<u64, ShardError> {
    let sweep = SWEEP.statement().bind(true).bind(micros(age));
    database.execute(sweep).await
}

// === impl Decision ===

impl Decision {
    /// The virtual shard where the decision is written.
    pub const fn shard(&self) -> VirtualShard {
        self.shard
    }

    /// The transaction's id.
    pub const fn id(&self) -> Id {
        self.id
    }

    fn read(row: &Row) -> Result<Self, ShardError> {
        let shard = u32::try_from(row.get::<i64>("shard_id")?);
        let shard = shard.map_err(|source| ShardError::Column {
            column: "shard_id".to_owned(),
            source: source.into(),
        })?;
        Ok(Self {
            shard: VirtualShard::new(shard),
            id: row.get("id")?,
        })
    }

    fn named(self, text: Sql) -> Statement {
        text.statement().bind(self.shard).bind(self.id)
    }

    /// Writes the row in the first participant's transaction: if that is
    /// committed, so is the whole.
    pub(super) async fn note(self, tx: &mut Tx) -> Result<(), ShardError> {
        tx.execute(self.named(NOTE)).await?;
        Ok(())
    }

    /// Whether it was committed; for ever, as what still runs is waited for, or
    /// [`ShardError::Busy`] says that it does.
    pub(super) async fn is_committed(self, database: &Database) -> Result<bool, ShardError> {
        let mut tx = database.begin().await?;
        let there = tx.execute(self.named(PROBE)).await? == 0;
        // Undone in any case; this keeps the connection.
        let _ = tx.rollback().await;
        Ok(there)
    }

    /// Says that no participant is left.
    pub(super) async fn finish(self, database: &Database) -> Result<(), ShardError> {
        database.execute(self.named(FINISH)).await?;
        Ok(())
    }
}
