//! What a row says, and what is bound to write it.

use std::time::Duration;

use maxscale_core::clock::Timestamp;
use maxscale_core::id::Id;
use maxscale_shard::{Row, ShardError, Statement};

use super::time;
use crate::session::record::{Level, Methods, Previous, Roles, SecretHash, Session, Standing};
use crate::session::store::{Listed, NewSession, Rotation};

pub(super) fn session(user: Id, row: &Row) -> Result<Session, ShardError> {
    let until = time(row, "previous_until")?;
    let previous = match until {
        Some(until) => Some(Previous {
            secret_hash: hash(row, "previous_hash")?,
            until,
            level: level(
                row.get::<Option<i64>>("previous_level")?
                    .unwrap_or_default(),
            ),
        }),
        None => None,
    };
    Ok(Session {
        user,
        id: row.get("session_id")?,
        secret_hash: hash(row, "secret_hash")?,
        created_at: Timestamp::from_micros(row.get("created_at")?),
        last_active: Timestamp::from_micros(row.get("last_seen")?),
        authenticated_at: Timestamp::from_micros(row.get("authenticated_at")?),
        idle: Duration::from_micros(row.get::<i64>("idle")?.try_into().unwrap_or_default()),
        ends_at: Timestamp::from_micros(row.get("ends_at")?),
        level: level(row.get("level")?),
        methods: Methods::of(row.get::<i64>("methods")?.try_into().unwrap_or_default()),
        version: row.get::<i64>("version")?.try_into().unwrap_or_default(),
        previous,
        actor: row.get("actor")?,
    })
}

pub(super) fn standing(row: &Row) -> Result<Standing, ShardError> {
    Ok(Standing {
        roles: Roles::of(&row.get::<String>("roles")?),
        changes: changes(row)?,
    })
}

pub(super) fn changes(row: &Row) -> Result<u64, ShardError> {
    Ok(row.get::<i64>("changes")?.try_into().unwrap_or_default())
}

pub(super) fn listed(user: Id, row: &Row) -> Result<Listed, ShardError> {
    Ok(Listed {
        session: session(user, row)?,
        device: row.get("device")?,
    })
}

pub(super) fn ids(rows: &[Row]) -> Result<Vec<Id>, ShardError> {
    rows.iter().map(|row| row.get("session_id")).collect()
}

/// Binds all that follows the session's id in a new row.
pub(super) fn insert(statement: Statement, new: &NewSession<'_>) -> Statement {
    let it = new.session;
    statement
        .bind(&it.secret_hash.bytes()[..])
        .bind(it.created_at)
        .bind(it.last_active)
        .bind(it.authenticated_at)
        .bind(i64::try_from(it.idle.as_micros()).unwrap_or(i64::MAX))
        .bind(it.ends_at)
        .bind(i64::from(it.level.number()))
        .bind(i64::from(it.methods.bits()))
        .bind(i64::from(it.version))
        .bind(it.actor)
        .bind(new.device)
}

/// Binds all that follows the session's id in an exchange.
pub(super) fn rotate(statement: Statement, rotation: &Rotation) -> Statement {
    statement
        .bind(i64::from(rotation.expected))
        .bind(rotation.grace_until)
        .bind(&rotation.secret_hash.bytes()[..])
        .bind(i64::from(rotation.level.number()))
        .bind(i64::from(rotation.methods.bits()))
        .bind(rotation.authenticated_at)
}

fn level(number: i64) -> Level {
    Level::of(number.try_into().unwrap_or_default())
}

fn hash(row: &Row, column: &str) -> Result<SecretHash, ShardError> {
    let bytes: Vec<u8> = row.get(column)?;
    // A hash of another length matches no secret.
    Ok(SecretHash::new(bytes.try_into().unwrap_or_default()))
}
