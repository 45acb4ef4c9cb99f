use std::sync::Arc;

use maxscale_core::BoxError;
use maxscale_core::fact::VirtualShard;
use maxscale_core::id::KeyspaceTag;
use maxscale_core::refusal::{Class, Classify};

use crate::key::KeyError;
use crate::residency::Outside;
use crate::router::WritesRefused;
use crate::sql::TxId;
use crate::topology::{Epoch, NodeId};

/// A statement did not reach its shard, or the shard refused it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShardError {
    /// The virtual shard lies outside the keyspace.
    #[error("virtual shard {shard} lies outside the keyspace of {count}")]
    OutOfRange {
        /// The shard asked for.
        shard: VirtualShard,
        /// The keyspace's number of virtual shards.
        count: u32,
    },

    /// The id was drawn for another keyspace.
    #[error("id belongs to keyspace {found}, this is {expected}", found = .found.get(), expected = .expected.get())]
    WrongKeyspace {
        /// The id's tag.
        found: KeyspaceTag,
        /// The router's tag.
        expected: KeyspaceTag,
    },

    /// The key has no place in the keyspace.
    #[error(transparent)]
    Key(#[from] KeyError),

    /// The node is configured, and was not reachable or not migrated since the start.
    #[error("{node} is not ready")]
    NotReady {
        /// The node.
        node: NodeId,
    },

    /// What is pinned to regions lies on a node that is not wholly there, or was to be
    /// asked of one. Nothing was sent. The map, or the list of servers, is to be put right.
    #[error(transparent)]
    Residency(Arc<Outside>),

    /// The virtual shard changes its node, which takes a moment.
    #[error("virtual shard {shard} moves to another node (epoch {epoch})")]
    Frozen {
        /// The virtual shard.
        shard: VirtualShard,
        /// The epoch of the map that says so.
        epoch: Epoch,
    },

    /// The database's URL is not usable.
    #[error("cannot use the URL of {database}: {why}")]
    Url {
        /// The database's name.
        database: Arc<str>,
        /// What is wrong with it; holds no part of the URL but its scheme.
        why: String,
    },

    /// No connection in time, or it broke before a commit, or it leads to a standby that takes no writes.
    #[error("cannot connect to {database}")]
    Connect {
        /// The database that was tried.
        database: Arc<str>,
        /// Why the driver gave none.
        #[source]
        source: BoxError,
    },

    /// Nothing is written to the node, though a server of it would take it. Reads go on.
    #[error("{database} takes no writes: {why}")]
    WritesRefused {
        /// The database that was to be written to.
        database: Arc<str>,
        /// Why, and what ends it.
        why: WritesRefused,
    },

    /// A row with the same key exists.
    #[error("{database} holds such a row already")]
    Unique {
        /// The database.
        database: Arc<str>,
        /// The driver's error.
        #[source]
        source: BoxError,
    },

    /// A lock or the statement took too long, or two transactions were in
    /// each other's way. Nothing of the statement's transaction is stored.
    #[error("{database} is too busy")]
    Busy {
        /// The database.
        database: Arc<str>,
        /// The driver's error.
        #[source]
        source: BoxError,
    },

    /// The database refused the statement.
    #[error("{database} refused a statement")]
    Statement {
        /// The database.
        database: Arc<str>,
        /// The driver's error.
        #[source]
        source: BoxError,
    },

    /// The transaction cannot commit because one of its statements failed.
    #[error("the transaction on {database} failed before its commit")]
    Aborted {
        /// The database.
        database: Arc<str>,
    },

    /// The answer to a COMMIT was lost: the transaction is stored, or it is not.
    ///
    /// [`Database::outcome`](crate::Database::outcome) tells which, if the
    /// transaction had an id. To run it again without having asked may do it twice.
    #[error("nobody knows whether the transaction on {database} was committed")]
    OutcomeUnknown {
        /// The database.
        database: Arc<str>,
        /// The transaction, where its id was asked for
        /// ([`TxOptions::with_id`](crate::TxOptions::with_id)).
        tx: Option<TxId>,
        /// Why there was no answer.
        #[source]
        source: BoxError,
    },

    /// The request's deadline passed before the statement was answered.
    #[error("the deadline passed while waiting for {database}")]
    Deadline {
        /// The database.
        database: Arc<str>,
    },

    /// The rows of a scatter did not come in the order that was asked for: the
    /// database has another idea of a type, or of its values.
    #[error("{database} gave its rows in another order")]
    Unordered {
        /// The database.
        database: Arc<str>,
    },

    /// A column is absent or of another type.
    #[error("cannot read column {column}")]
    Column {
        /// The column's name.
        column: String,
        /// The driver's error.
        #[source]
        source: BoxError,
    },

    /// A statement that always gives a row gave none.
    #[error("{database} gave no row where one was expected")]
    NoRow {
        /// The database.
        database: Arc<str>,
    },

    /// A migration failed, was edited after it ran, or is missing.
    #[error("cannot migrate {database}: {why}")]
    Migration {
        /// The database.
        database: Arc<str>,
        /// Which migration, and what is wrong.
        why: String,
        /// The driver's error, if the database refused it.
        #[source]
        source: Option<BoxError>,
    },

    /// A newer program migrated the database, and this one has steps that did not run.
    #[error("{database} was migrated by a newer program: {steps} is unknown to this one")]
    Newer {
        /// The database.
        database: Arc<str>,
        /// What it ran, as `owner/version name`.
        steps: String,
    },
}

// === impl ShardError ===

impl ShardError {
    /// Whether the database could not be reached, as opposed to answering with an error.
    pub const fn is_unreachable(&self) -> bool {
        matches!(
            self,
            Self::Connect { .. } | Self::NotReady { .. } | Self::WritesRefused { .. }
        )
    }

    /// Whether the same may go well a little later.
    pub(crate) const fn may_pass(&self) -> bool {
        self.is_unreachable() || matches!(self, Self::Busy { .. } | Self::Frozen { .. })
    }
}

impl Classify for ShardError {
    fn class(&self) -> Class {
        match self {
            Self::WrongKeyspace { .. } | Self::OutOfRange { .. } | Self::Key(_) => Class::Invalid,
            Self::NotReady { .. }
            | Self::Frozen { .. }
            | Self::Connect { .. }
            | Self::WritesRefused { .. }
            | Self::Busy { .. }
            | Self::OutcomeUnknown { .. } => Class::Unavailable,
            Self::Deadline { .. } => Class::Timeout,
            Self::Unique { .. } => Class::Conflict,
            _ => Class::Internal,
        }
    }
}
