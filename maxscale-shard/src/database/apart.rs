use super::{Database, Lane, Pool};

impl Database {
    /// The same database by one connection that nobody else takes: for work that must
    /// go on while all others are taken, or on a runtime of its own while this one
    /// is blocked. On PostgreSQL the connection counts in the
    /// [budget](crate::DatabaseOptions::budget), and whether the server
    /// [answers](Self::health) is found out anew.
    ///
    /// A connection belongs to the runtime that it was made on: use the handle, and
    /// drop what it gave, on one.
    #[must_use]
    pub fn apart(&self) -> Self {
        Self {
            pool: self.pool.apart(),
            lane: Lane::Background,
            ..self.clone()
        }
    }
}

impl Pool {
    fn apart(&self) -> Self {
        match self {
            #[cfg(feature = "postgres")]
            Self::Postgres(pool) => Self::Postgres(pool.apart()),
            #[cfg(feature = "sqlite")]
            Self::Sqlite(pools) => Self::Sqlite(pools.apart()),
            Self::Never(never) => crate::engine::never(never),
        }
    }
}
