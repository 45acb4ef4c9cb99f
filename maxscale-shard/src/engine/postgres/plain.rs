//! The verbs, as sqlx has them.

use std::borrow::Cow;
use std::sync::Arc;

use sqlx_core::transaction::TransactionManager;

use super::{Pooled, Pooler};
use crate::engine::driver::{self, bound, verbs};
use crate::error::ShardError;
use crate::sql::row::{RawRow, Row};
use crate::sql::{Engine, Statement};

verbs!(sqlx::Postgres, Pooled, Engine::Postgres, Postgres, |conn| {
    conn.pooler() != Pooler::Unprepared
});

fn ints(values: &[i32]) -> Vec<i32> {
    values.to_vec()
}

/// The driver reads the answer to its end, so an error after the row is seen.
pub(crate) async fn fetch_optional(
    conn: &mut Pooled,
    database: &Arc<str>,
    statement: Statement,
) -> Result<Option<Row>, ShardError> {
    let row = query(conn, statement).fetch_optional(&mut **conn);
    let row = row.await.map_err(|e| driver::error(database, e))?;
    Ok(row.map(|r| Row(RawRow::Postgres(r))))
}
