//! What each transaction has to set for itself, since behind a pooler no session can.

use super::Database;
#[cfg(feature = "postgres")]
use super::Pool;
use crate::sql::Sql;

impl Database {
    /// The server's limits, as it names and writes them; none where the session has them.
    pub(crate) fn limits_in_transactions(&self) -> Vec<(&'static str, String)> {
        match &self.pool {
            #[cfg(feature = "postgres")]
            Pool::Postgres(pool) if pool.pooler() != crate::engine::postgres::Pooler::None => {
                crate::engine::postgres::limits(&self.options).into()
            }
            _ => Vec::new(),
        }
    }

    /// What has the server end a statement soon after its client has gone; none
    /// where the session has it.
    pub(crate) fn look_for_client_in_transactions(&self) -> Option<Sql> {
        match &self.pool {
            #[cfg(feature = "postgres")]
            Pool::Postgres(pool) if pool.pooler() != crate::engine::postgres::Pooler::None => {
                Some(crate::engine::postgres::LOOK_FOR_CLIENT)
            }
            _ => None,
        }
    }
}
