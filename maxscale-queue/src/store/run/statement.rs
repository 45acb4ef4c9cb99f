//! The texts of what a run tells of itself.

use maxscale_shard::Sql;

macro_rules! fenced {
    () => {
        " WHERE shard_id = $1 AND job_id = $2 AND worker = $3 AND lease_token = $4
           AND state = 'running'"
    };
}

/// On SQLite the transaction holds the file.
pub(super) const LOCK: Sql = Sql::each(
    concat!("SELECT steps FROM ms_job", fenced!(), " FOR UPDATE"),
    concat!("SELECT steps FROM ms_job", fenced!()),
);

pub(super) const KEEP: Sql = Sql::both(concat!("UPDATE ms_job SET steps = $5", fenced!()));

pub(super) const PROGRESS: Sql = Sql::both(concat!("UPDATE ms_job SET progress = $5", fenced!()));
