//! The verbs around a transaction: what begins it, what ends it, and whether it still stands.

use std::borrow::Cow;
use std::pin::pin;

use tracing::Instrument as _;

use super::{Conn, RawConn};
use crate::database::pulse::answer_within;
use crate::error::ShardError;
use crate::sql::{Engine, Watermark};
use crate::telemetry;

impl Conn {
    /// Prepares the transaction, which is the server's then, with `command`.
    pub(crate) async fn prepare(&mut self, command: String) -> Result<(), ShardError> {
        self.unsure = true;
        self.run_alone(command).await?;
        #[cfg(feature = "postgres")]
        if let RawConn::Postgres(conn) = &mut self.raw {
            crate::engine::postgres::forget(conn);
        }
        Ok(())
    }

    pub(crate) async fn begin(&mut self, begin: Cow<'static, str>) -> Result<(), ShardError> {
        answered!(self, begin, begin)
    }

    /// Makes sure that the transaction can be committed: PostgreSQL answers the
    /// COMMIT of one that cannot with ROLLBACK, and no error.
    pub(crate) async fn stands(&mut self) -> Result<(), ShardError> {
        // What was done past this handle may have ended it, or begun another one in it.
        let ended = self.handed_out && self.depth() != 1;
        if !self.failed && !ended && self.handed_out && self.engine() == Engine::Postgres {
            // Refused after a failed statement, and where no transaction is open.
            let savepoint = Cow::Borrowed("SAVEPOINT maxscale_commit");
            let probe: Result<(), ShardError> = answered!(self, run_script, savepoint);
            match probe {
                Err(error) if error.is_unreachable() => return Err(error),
                probe => self.failed = probe.is_err(),
            }
        }
        if self.failed || ended {
            return Err(self.aborted());
        }
        Ok(())
    }

    /// Commits; with a watermark if it is wanted and there is one.
    pub(crate) async fn commit(&mut self, marked: bool) -> Result<Option<Watermark>, ShardError> {
        if marked {
            self.unsure = true;
            return answered!(self, commit_marked);
        }
        let done: Result<(), ShardError> = answered!(self, commit);
        done.map(|()| None)
    }

    pub(super) fn aborted(&self) -> ShardError {
        ShardError::Aborted {
            database: self.database.clone(),
        }
    }

    pub(crate) async fn rollback(&mut self) -> Result<(), ShardError> {
        answered!(self, rollback)
    }

    /// Sets a savepoint.
    pub(crate) async fn nest(&mut self) -> Result<(), ShardError> {
        if std::mem::replace(&mut self.failed, true) {
            return Err(self.aborted());
        }
        let nested: Result<(), ShardError> = answered!(self, nest);
        self.failed = nested.is_err();
        nested
    }

    /// Leaves the savepoint that made the depth `depth`, keeping what was done since, or not.
    pub(crate) async fn unnest(&mut self, depth: usize, keep: bool) -> Result<(), ShardError> {
        let failed = std::mem::replace(&mut self.failed, true);
        if self.depth() != depth {
            return Err(self.aborted());
        }
        let kept: Result<(), ShardError> = if keep && !failed {
            answered!(self, commit)
        } else {
            Err(self.aborted())
        };
        if kept.is_err() {
            let undone: Result<(), ShardError> = answered!(self, rollback);
            undone?;
        }
        self.failed = false;
        if keep { kept } else { Ok(()) }
    }

    /// How many transactions and savepoints are open.
    pub(crate) fn depth(&self) -> usize {
        match &self.raw {
            #[cfg(feature = "postgres")]
            RawConn::Postgres(conn) => crate::engine::postgres::depth(conn),
            #[cfg(feature = "sqlite")]
            RawConn::Sqlite(conn) => crate::engine::sqlite::depth(conn),
            RawConn::Never(never) => crate::engine::never(never),
        }
    }
}
