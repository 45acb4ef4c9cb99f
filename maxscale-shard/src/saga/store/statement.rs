//! The texts, for both engines, each with its clock in it.

use crate::sql::Sql;

macro_rules! pg_now {
    () => {
        "(extract(epoch from clock_timestamp()) * 1000000)::bigint"
    };
}

/// For a bound that an index serves: stable within its statement.
macro_rules! pg_statement {
    () => {
        "(extract(epoch from statement_timestamp()) * 1000000)::bigint"
    };
}

macro_rules! sqlite_now {
    () => {
        "CAST(unixepoch('subsec') * 1000000 AS INTEGER)"
    };
}

macro_rules! begin {
    ($now:expr) => {
        concat!(
            "INSERT INTO ms_saga
                (shard_id, id, name, payload, phase, step, failed, counted, token, due)
             VALUES ($1, $2, $3, $4, 'forward', 0, 0, 0, 0, ",
            $now,
            ") ON CONFLICT (shard_id, id) DO NOTHING",
        )
    };
}

/// Begun twice under one id is one saga.
pub(super) const BEGIN: Sql = Sql::each(begin!(pg_now!()), begin!(sqlite_now!()));

macro_rules! take {
    ($now:expr) => {
        concat!(
            "UPDATE ms_saga SET token = token + 1, due = $3 + ",
            $now,
            " WHERE shard_id = $1 AND id = $2 AND phase IN ('forward', 'backward') AND due <= ",
            $now,
            " RETURNING name, payload, phase, step, failed, counted, token",
        )
    };
}

pub(super) const TAKE: Sql = Sql::each(take!(pg_now!()), take!(sqlite_now!()));

macro_rules! save {
    ($now:expr) => {
        concat!(
            "UPDATE ms_saga
             SET phase = $4, step = $5, failed = $6, counted = $7, problem = $8, due = $9 + ",
            $now,
            " WHERE shard_id = $1 AND id = $2 AND token = $3",
        )
    };
}

pub(super) const SAVE: Sql = Sql::each(save!(pg_now!()), save!(sqlite_now!()));

pub(super) const PHASE: Sql =
    Sql::both("SELECT phase FROM ms_saga WHERE shard_id = $1 AND id = $2");

macro_rules! retry {
    ($now:expr) => {
        concat!(
            "UPDATE ms_saga SET phase = 'backward', failed = 0, counted = 0, due = ",
            $now,
            " WHERE shard_id = $1 AND id = $2 AND phase = 'stuck'",
        )
    };
}

pub(super) const RETRY: Sql = Sql::each(retry!(pg_now!()), retry!(sqlite_now!()));

pub(super) const REMOVE: Sql = Sql::both("DELETE FROM ms_saga WHERE shard_id = $1 AND id = $2");

macro_rules! due {
    ($now:expr) => {
        concat!(
            "SELECT shard_id, id FROM ms_saga WHERE phase = $1 AND due <= ",
            $now,
            " ORDER BY due LIMIT $2",
        )
    };
}

/// Node-wide, by `ms_saga_due`: what a recovery pass may take, longest due first.
pub(super) const DUE: Sql = Sql::each(due!(pg_statement!()), due!(sqlite_now!()));

macro_rules! ended {
    ($now:expr) => {
        concat!(
            "SELECT shard_id, id, name, payload, step, problem FROM ms_saga
             WHERE phase = $1 AND due <= ",
            $now,
            " - $2 ORDER BY due LIMIT $3",
        )
    };
}

/// Node-wide, by `ms_saga_due`: those in an end, the first to get there first.
pub(super) const ENDED: Sql = Sql::each(ended!(pg_statement!()), ended!(sqlite_now!()));
