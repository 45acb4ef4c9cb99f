use std::sync::Arc;

use crate::engine::verdict;
use crate::error::ShardError;
use crate::sql::{Row, Sql};

/// A transaction's name in its database, by which its outcome is found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxId {
    /// As the server numbers transactions.
    pub(crate) number: i64,
    /// The cluster that numbers them, which a promoted standby goes on with.
    pub(crate) system: Arc<str>,
    /// Since when no number was given out twice: no promotion, no crash.
    pub(crate) era: Arc<str>,
}

/// What became of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// Its effects are stored.
    Committed,
    /// Nothing of it is stored, nor will be.
    RolledBack,
    /// The server still waits for the commit, or for the client to be gone.
    Running,
    /// The server cannot tell: the transaction was long ago or on another server,
    /// or a crash or a promotion came in between, after which the server may
    /// have given its number to another one.
    Unknown,
}

/// What a replica must have read to show a commit: a position in the log of a primary.
///
/// Positions compare within one timeline only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Watermark {
    timeline: u32,
    position: u64,
}

// === impl Watermark ===

impl Watermark {
    /// The watermark at `position` of `timeline`, as they were told before.
    pub const fn new(timeline: u32, position: u64) -> Self {
        Self { timeline, position }
    }

    /// Which history of the database it is in; another one after each promotion.
    pub const fn timeline(self) -> u32 {
        self.timeline
    }

    /// Bytes since the start of the log.
    pub const fn position(self) -> u64 {
        self.position
    }
}

// === impl TxId ===

/// Which transaction this is, and [`ERA`]. Takes a number even for one that only reads.
pub(crate) const CURRENT: Sql = Sql::both(
    "SELECT txid_current() AS number,
            (SELECT system_identifier FROM pg_control_system())::text AS system,
            left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) || ' '
                || (SELECT stats_reset FROM pg_stat_bgwriter)::text AS era",
);

/// What became of a transaction.
pub(crate) const STATUS: Sql = Sql::both("SELECT txid_status($1) AS status");

/// Whose numbers these are. After a crash the server starts its statistics anew.
pub(crate) const ERA: Sql = Sql::both(
    "SELECT (SELECT system_identifier FROM pg_control_system())::text AS system,
            left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) || ' '
                || (SELECT stats_reset FROM pg_stat_bgwriter)::text AS era",
);

impl TxId {
    /// Reads the answer to [`CURRENT`].
    pub(crate) fn read(row: &Row) -> Result<Self, ShardError> {
        Ok(Self {
            number: row.get("number")?,
            system: row.get::<String>("system")?.into(),
            era: row.get::<String>("era")?.into(),
        })
    }

    /// Reads the answers to [`ERA`] and [`STATUS`].
    pub(crate) fn outcome(
        &self,
        era: &Row,
        status: Result<Row, ShardError>,
    ) -> Result<Outcome, ShardError> {
        if era.get::<String>("system")? != *self.system {
            return Ok(Outcome::Unknown);
        }
        let same_era = era.get::<String>("era")? == *self.era;
        let status = match status {
            Ok(row) => row.get::<Option<String>>("status")?,
            // No such number was given out: the server lost its memory of it,
            // and with that what the transaction did.
            Err(ShardError::Statement { source, .. })
                if verdict::code(&source).is_some_and(|code| code == "22023") =>
            {
                Some("aborted".to_owned())
            }
            Err(error) => return Err(error),
        };
        Ok(match status.as_deref() {
            // Whoever has the number now, nothing was committed under it.
            Some("aborted") => Outcome::RolledBack,
            Some("committed") if same_era => Outcome::Committed,
            Some("in progress") if same_era => Outcome::Running,
            _ => Outcome::Unknown,
        })
    }
}
