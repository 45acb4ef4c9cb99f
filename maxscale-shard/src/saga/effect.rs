//! What a step left on its own shard: the row that says so, written with it.
//!
//! The row is written first, so of two drivers at one step the second waits for
//! the first and then finds what it did. A step that is given up is closed by
//! the same row: a driver that comes late finds it and does nothing.

use maxscale_core::id::Id;

use super::StepError;
use crate::error::ShardError;
use crate::sql::{Sql, Statement, Tx};

const NOTE: Sql = Sql::both(
    "INSERT INTO ms_saga_effect (shard_id, saga_id, step, state) VALUES ($1, $2, $3, $4)
     ON CONFLICT (shard_id, saga_id, step) DO NOTHING",
);

const STATE: Sql = Sql::both(
    "SELECT state FROM ms_saga_effect WHERE shard_id = $1 AND saga_id = $2 AND step = $3",
);

const UNDO: Sql = Sql::both(
    "UPDATE ms_saga_effect SET state = 'undone'
     WHERE shard_id = $1 AND saga_id = $2 AND step = $3 AND state = 'done'",
);

const FORGET: Sql =
    Sql::both("DELETE FROM ms_saga_effect WHERE shard_id = $1 AND saga_id = $2 AND step = $3");

/// One step of one saga.
#[derive(Clone, Copy, Debug)]
pub(super) struct Effect {
    pub(super) saga: Id,
    pub(super) step: u32,
}

// === impl Effect ===

impl Effect {
    fn named(self, text: Sql, tx: &Tx) -> Statement {
        let shard = tx.shard();
        text.statement().bind(shard).bind(self.saga).bind(self.step)
    }

    /// Notes the step as done in `tx`, where its effect follows; false if that
    /// is there already.
    pub(super) async fn done(self, tx: &mut Tx) -> Result<bool, StepError> {
        let note = self.named(NOTE, tx).bind("done");
        if tx.execute(note).await? > 0 {
            return Ok(true);
        }
        if self.state(tx).await? == "done" {
            return Ok(false);
        }
        Err(StepError::refused("another driver has given the step up"))
    }

    /// Notes the step as undone in `tx`; true if there is something to undo,
    /// which follows. From then on nobody can do the step.
    pub(super) async fn undone(self, tx: &mut Tx) -> Result<bool, ShardError> {
        if self.note_closed(tx).await? {
            return Ok(false);
        }
        let undo = self.named(UNDO, tx);
        Ok(tx.execute(undo).await? > 0)
    }

    /// Makes sure in `tx` that nobody can do the step; false if it is done.
    pub(super) async fn closed(self, tx: &mut Tx) -> Result<bool, ShardError> {
        Ok(self.note_closed(tx).await? || self.state(tx).await? != "done")
    }

    async fn note_closed(self, tx: &mut Tx) -> Result<bool, ShardError> {
        let note = self.named(NOTE, tx).bind("closed");
        Ok(tx.execute(note).await? > 0)
    }

    async fn state(self, tx: &mut Tx) -> Result<String, ShardError> {
        let state = self.named(STATE, tx);
        tx.fetch_one(state).await?.get("state")
    }

    pub(super) async fn forget(self, tx: &mut Tx) -> Result<(), ShardError> {
        let forget = self.named(FORGET, tx);
        tx.execute(forget).await?;
        Ok(())
    }
}
