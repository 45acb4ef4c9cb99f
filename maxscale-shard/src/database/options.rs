use std::time::Duration;

/// How a [`Database`](crate::Database) is connected to.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct DatabaseOptions {
    /// The most connections at once for requests; PostgreSQL. SQLite has one writer
    /// and four readers.
    pub connections: u32,
    /// The most connections at once for background work, besides those for requests.
    pub background: u32,
    /// The most connections of all databases together that are opened with these
    /// options by one [`Router`](crate::Router) or [`Fleet`](crate::Fleet).
    pub budget: u32,
    /// How long to wait for a connection.
    pub acquire_timeout: Duration,
    /// When an idle connection is closed.
    pub idle_timeout: Duration,
    /// The longest statement; PostgreSQL ends it. Where no answer has come a second
    /// later, the server hangs or is cut off, and the connection is given up.
    pub statement_timeout: Duration,
    /// The longest wait for a lock.
    pub lock_timeout: Duration,
    /// The longest a transaction may idle.
    pub idle_in_transaction: Duration,
    /// How long a server may take to accept a connection and answer on it, when it
    /// is checked because a call waits; PostgreSQL. After three failed checks in a
    /// row, calls are refused at once until it answers. Far away, with TLS and a
    /// password, that takes seven times the way there and back.
    pub check_timeout: Duration,
    /// How often the servers of a node that has several are asked which of them is
    /// the primary, while the node is used.
    pub check_every: Duration,
}

// === impl DatabaseOptions ===

impl Default for DatabaseOptions {
    /// 16 connections, 4 for background work, 256 to all databases; 1 s to get one,
    /// 5 s per statement, 2 s per lock, 10 s idle in a transaction, 1 s per check
    /// and between checks.
    fn default() -> Self {
        Self {
            connections: 16,
            background: 4,
            budget: 256,
            acquire_timeout: Duration::from_secs(1),
            idle_timeout: Duration::from_secs(300),
            statement_timeout: Duration::from_secs(5),
            lock_timeout: Duration::from_secs(2),
            idle_in_transaction: Duration::from_secs(10),
            check_timeout: Duration::from_secs(1),
            check_every: Duration::from_secs(1),
        }
    }
}
