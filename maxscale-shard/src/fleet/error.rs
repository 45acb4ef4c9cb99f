use std::time::Duration;

use crate::error::ShardError;
use crate::keyspace::KeyspaceError;
use crate::residency::ResidencyError;
use crate::topology::{MapTextError, NodeId, TopologyError};

/// A fleet that could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FleetError {
    /// The catalog did not answer in time, or was too busy.
    #[error("the catalog was not reachable within {waited:?}")]
    NoCatalog {
        /// How long it was tried.
        waited: Duration,
        /// The last error.
        #[source]
        source: ShardError,
    },

    /// No catalog was found, and one is made only once every node has said that
    /// it belongs to no fleet: one that is away may hold the catalog.
    #[error(
        "no catalog was found, and a first start needs every node; \
         no answer within {waited:?} from {}",
        names(missing)
    )]
    FirstStart {
        /// The nodes that did not answer.
        missing: Vec<NodeId>,
        /// How long they were tried.
        waited: Duration,
        /// The last error.
        #[source]
        source: ShardError,
    },

    /// No node answered in time.
    #[error("no node was reachable within {waited:?}")]
    NoNode {
        /// How long they were tried.
        waited: Duration,
        /// The last error.
        #[source]
        source: Option<ShardError>,
    },

    /// The list of nodes is not the one the fleet was created with.
    #[error("the list of nodes differs from the stored one: {0}")]
    Differs(String),

    /// A database belongs to another node or another fleet.
    #[error("the database of {expected} says that it is {found}")]
    WrongNode {
        /// The node it is listed as.
        expected: NodeId,
        /// What its own row says.
        found: String,
    },

    /// The two URLs of a node lead to two databases.
    #[error("the direct URL of {node} leads to another database than its first URL")]
    OtherDirect {
        /// The node.
        node: NodeId,
    },

    /// There are migrations to run, and `check` forbids to run them.
    #[error("{database} has pending migrations: {pending}")]
    Pending {
        /// The database.
        database: String,
        /// Their names.
        pending: String,
    },

    /// The list makes no map.
    #[error(transparent)]
    Topology(#[from] TopologyError),

    /// The keyspace cannot be, or is not the one that the fleet was created with.
    #[error(transparent)]
    Keyspace(#[from] KeyspaceError),

    /// The pins cannot be.
    #[error(transparent)]
    Residency(#[from] ResidencyError),

    /// What the catalog holds is no map.
    #[error("the map in the catalog cannot be read")]
    Map(#[from] MapTextError),

    /// A database refused.
    #[error(transparent)]
    Shard(#[from] ShardError),
}

/// Several names, for a person.
pub(super) fn names(nodes: &[NodeId]) -> String {
    let names: Vec<&str> = nodes.iter().map(NodeId::as_str).collect();
    names.join(", ")
}
