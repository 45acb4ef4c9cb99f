//! The rows of one statement, handed on while they come.

use std::time::Duration;

use tokio::sync::mpsc;

use crate::error::ShardError;
use crate::sql::Row;

/// Where the rows of a statement go: so many at a time, and no more of them are
/// read before somebody has taken those.
#[cfg_attr(
    not(any(feature = "postgres", feature = "sqlite")),
    expect(dead_code, reason = "no engine gives rows")
)]
pub(crate) struct Pour<T> {
    /// What becomes of a row.
    pub(crate) read: Box<dyn FnMut(Row) -> Result<T, ShardError> + Send>,
    pub(crate) into: mpsc::Sender<Vec<T>>,
    /// How many rows are handed on together.
    pub(crate) at_once: usize,
    /// How long the database may take for them.
    pub(crate) patience: Duration,
}

// === impl Pour ===

#[cfg(any(feature = "postgres", feature = "sqlite"))]
impl<T: Send> Pour<T> {
    /// Hands on what `rows` gives until that is nothing.
    pub(crate) async fn take<R: Send>(
        &mut self,
        database: &std::sync::Arc<str>,
        mut rows: futures_util::stream::BoxStream<'_, Result<R, sqlx::Error>>,
        row: fn(R) -> Row,
    ) -> Result<bool, ShardError> {
        use futures_util::TryStreamExt;

        let mut more = true;
        while more {
            let mut taken = Vec::with_capacity(self.at_once);
            let filled = async {
                while more && taken.len() < self.at_once {
                    let next = rows.try_next().await;
                    match next.map_err(|e| crate::engine::driver::error(database, e))? {
                        Some(raw) => taken.push((self.read)(row(raw))?),
                        None => more = false,
                    }
                }
                Ok::<(), ShardError>(())
            };
            let filled = tokio::time::timeout(self.patience, filled).await;
            filled.map_err(|_| ShardError::Deadline {
                database: database.clone(),
            })??;
            if !taken.is_empty() && self.into.send(taken).await.is_err() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
