//! What a database can do besides SQL, and which product it is.

use std::fmt;

/// What a database can do on the way that leads to it. Read once per database,
/// when first asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// Which product answers.
    pub product: Product,
    /// Whether a connection may `LISTEN`. Behind a pooler in transaction mode
    /// another client would get the notifications.
    pub listen: bool,
    /// Whether a connection may hold advisory locks beyond a transaction.
    pub session_locks: bool,
    /// Whether advisory locks that end with their transaction lock anything.
    pub advisory_locks: bool,
    /// Whether `PREPARE TRANSACTION` is offered.
    pub two_phase: bool,
    /// Whether PostgreSQL's logical replication can copy from it.
    pub logical_replication: bool,
}

/// A database product that the crate tells from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Product {
    /// PostgreSQL, or what cannot be told from it.
    Postgres,
    /// PostgreSQL with the extension citus in this database.
    Citus,
    /// YugabyteDB.
    Yugabyte,
    /// CockroachDB.
    Cockroach,
    /// A SQLite file.
    Sqlite,
}

impl fmt::Display for Product {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Postgres => "PostgreSQL",
            Self::Citus => "Citus",
            Self::Yugabyte => "YugabyteDB",
            Self::Cockroach => "CockroachDB",
            Self::Sqlite => "SQLite",
        })
    }
}

#[cfg(feature = "sqlite")]
impl Capabilities {
    /// A file tells nobody anything; its locks are its own.
    pub(crate) const SQLITE: Self = Self {
        product: Product::Sqlite,
        listen: false,
        session_locks: false,
        advisory_locks: false,
        two_phase: false,
        logical_replication: false,
    };
}
