//! A saga's row, on the shard where it was begun.
//!
//! `due` is when the next driver may take it: the end of a lease, or of a pause.
//! `token` grows with each taking, and whoever writes names his. Both are of the
//! database's clock and hand, so drivers need not agree on the time.

mod statement;

use std::time::Duration;

use maxscale_core::fact::VirtualShard;
use maxscale_core::id::Id;

use super::SagaError;
use super::state::{Phase, State};
use crate::database::Database;
use crate::error::ShardError;
use crate::router::Shard;
use crate::sql::{Row, Sql, Statement, Tx};

use statement::{BEGIN, DUE, ENDED, PHASE, REMOVE, RETRY, SAVE, TAKE};

/// Where a saga's row is.
#[derive(Clone, Debug)]
pub(super) struct Home {
    pub(super) database: Database,
    pub(super) shard: VirtualShard,
    pub(super) id: Id,
}

/// A saga that this driver may drive until its lease runs out.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) name: String,
    pub(super) payload: String,
    pub(super) state: State,
    token: i64,
}

/// A row in an end.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) home: Home,
    pub(super) name: String,
    pub(super) payload: String,
    pub(super) step: u32,
    pub(super) problem: Option<String>,
}

/// Writes the row in the caller's transaction; false if it is there already.
pub(super) async fn begin(
    tx: &mut Tx,
    shard: VirtualShard,
    id: Id,
    name: &str,
    payload: String,
) -> Result<bool, ShardError> {
    let row = BEGIN.statement().bind(shard).bind(id);
    Ok(tx.execute(row.bind(name).bind(payload)).await? > 0)
}

/// What is due on a node, at most `limit` of each direction.
pub(super) async fn due(database: &Database, limit: u32) -> Result<Vec<Home>, ShardError> {
    let mut homes = Vec::new();
    for phase in [Phase::Backward, Phase::Forward] {
        let due = DUE.statement().bind(phase.text()).bind(limit);
        for row in database.fetch_all(due).await? {
            homes.push(Home::read(database, &row)?);
        }
    }
    Ok(homes)
}

/// What has been in the end `phase` for so long.
pub(super) async fn ended(
    database: &Database,
    phase: Phase,
    since: Duration,
    limit: u32,
) -> Result<Vec<Ended>, ShardError> {
    let ended = ENDED.statement().bind(phase.text()).bind(micros(since));
    let rows = database.fetch_all(ended.bind(limit)).await?;
    let read = |row: &Row| {
        Ok(Ended {
            home: Home::read(database, row)?,
            name: row.get("name")?,
            payload: row.get("payload")?,
            step: small(row, "step")?,
            problem: row.get("problem")?,
        })
    };
    rows.iter().map(read).collect()
}

fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX / 2)
}

fn small(row: &Row, column: &'static str) -> Result<u32, ShardError> {
    u32::try_from(row.get::<i64>(column)?).map_err(|source| unreadable(column, source))
}

fn unreadable(column: &str, source: impl Into<maxscale_core::BoxError>) -> ShardError {
    ShardError::Column {
        column: column.to_owned(),
        source: source.into(),
    }
}

fn phase(row: &Row) -> Result<Phase, ShardError> {
    let text: String = row.get("phase")?;
    Phase::read(&text).ok_or_else(|| unreadable("phase", format!("{text:?} is no phase")))
}

// === impl Home ===

impl Home {
    pub(super) fn on(shard: &Shard, id: Id) -> Self {
        Self {
            database: shard.node().database().clone(),
            shard: shard.id(),
            id,
        }
    }

    fn read(database: &Database, row: &Row) -> Result<Self, ShardError> {
        Ok(Self {
            database: database.clone(),
            shard: VirtualShard::new(small(row, "shard_id")?),
            id: row.get("id")?,
        })
    }

    fn named(&self, text: Sql) -> Statement {
        text.statement().bind(self.shard).bind(self.id)
    }

    /// Takes the saga for `lease`, unless somebody has it, or it waits, or has ended.
    pub(super) async fn take(&self, lease: Duration) -> Result<Option<Taken>, ShardError> {
        let take = self.named(TAKE).bind(micros(lease));
        let rows = self.database.execute_returning(take).await?;
        let read = |row: &Row| {
            Ok(Taken {
                name: row.get("name")?,
                payload: row.get("payload")?,
                state: State {
                    phase: phase(row)?,
                    step: small(row, "step")?,
                    failed: small(row, "failed")?,
                    counted: small(row, "counted")?,
                },
                token: row.get("token")?,
            })
        };
        rows.first().map(read).transpose()
    }

    /// Stores where the saga stands, and when the next driver may take it; false
    /// if another one has.
    pub(super) async fn save(
        &self,
        taken: &Taken,
        problem: Option<&str>,
        due: Duration,
    ) -> Result<bool, ShardError> {
        let state = &taken.state;
        let save = self.named(SAVE).bind(taken.token).bind(state.phase.text());
        let save = save.bind(state.step).bind(state.failed).bind(state.counted);
        let save = save.bind(problem.map(str::to_owned)).bind(micros(due));
        Ok(self.database.execute(save).await? > 0)
    }

    /// How far the saga is.
    pub(super) async fn phase(&self) -> Result<Phase, SagaError> {
        // Of the writer, which has seen what this process stored.
        let rows = self.database.execute_returning(self.named(PHASE)).await?;
        let row = rows.first().ok_or(SagaError::NotFound { id: self.id })?;
        Ok(phase(row)?)
    }

    /// Makes a stuck saga due again; false if it is not stuck.
    pub(super) async fn retry(&self) -> Result<bool, ShardError> {
        Ok(self.database.execute(self.named(RETRY)).await? > 0)
    }

    pub(super) async fn remove(&self) -> Result<(), ShardError> {
        self.database.execute(self.named(REMOVE)).await?;
        Ok(())
    }
}
