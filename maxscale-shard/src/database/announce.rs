use std::convert::Infallible;
#[cfg(feature = "postgres")]
use std::sync::Arc;

use super::{Database, Pool};
use crate::error::ShardError;

/// What a database announces on one channel, on a connection of its own outside any
/// budget. A hint: what is announced while nobody listens is lost.
#[derive(Debug)]
pub struct Announcements(Source);

#[derive(Debug)]
enum Source {
    #[cfg(feature = "postgres")]
    Postgres(Box<crate::engine::postgres::Announcements>, Arc<str>),
    /// Keeps matches exhaustive without any engine.
    #[allow(
        dead_code,
        reason = "no value exists; with an engine no code makes one"
    )]
    Never(Infallible),
}

// === impl Database ===

impl Database {
    /// What is announced on `channel` from now on. None where nothing is: a file
    /// has no channels, and a pooler in transaction mode hands none through.
    pub(crate) async fn announcements(
        &self,
        channel: &str,
    ) -> Result<Option<Announcements>, ShardError> {
        match &self.pool {
            #[cfg(feature = "postgres")]
            Pool::Postgres(pool) => {
                let on = pool.announcements(channel).await;
                let on = on.map_err(|e| crate::engine::driver::error(&self.name, e))?;
                Ok(on.map(|on| Announcements(Source::Postgres(Box::new(on), self.name.clone()))))
            }
            #[cfg(feature = "sqlite")]
            Pool::Sqlite(_) => Ok(None),
            Pool::Never(never) => {
                let _ = channel;
                crate::engine::never(never)
            }
        }
    }
}

// === impl Announcements ===

impl Announcements {
    /// Waits for the next one. After an error nothing comes any more, and
    /// something may have been missed.
    ///
    /// # Errors
    ///
    /// Returns [`ShardError`] when the connection is gone.
    pub async fn next(&mut self) -> Result<(), ShardError> {
        match &mut self.0 {
            #[cfg(feature = "postgres")]
            Source::Postgres(on, database) => {
                let next = on.next().await;
                next.map_err(|e| crate::engine::driver::error(database, e))
            }
            Source::Never(never) => crate::engine::never(never),
        }
    }
}
