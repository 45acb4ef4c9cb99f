use super::report::Rollout;
use crate::error::ShardError;
use crate::fleet::FleetError;
use crate::topology::NodeId;

/// A rollout that did not come to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RolloutError {
    /// The canary is none of the fleet's nodes.
    #[error("the canary {node} is no node of this fleet")]
    Unknown {
        /// What was asked for.
        node: NodeId,
    },

    /// A node is away, or its ledger does not fit this program. No step ran on any node.
    #[error("no node was migrated, since not every node can be: {}", rollout.failed())]
    Refused {
        /// What is pending where, and why it cannot be run.
        rollout: Rollout,
    },

    /// A node of a wave failed; the waves after it were not begun.
    #[error("the rollout stopped in wave {wave}: {}", rollout.failed())]
    Stopped {
        /// The wave's number.
        wave: usize,
        /// Which node has what.
        rollout: Rollout,
    },

    /// Somebody else migrates this fleet, and did not come to an end in time.
    #[error("{by} is migrating this fleet")]
    Held {
        /// Who.
        by: String,
    },

    /// Somebody else took over, since nothing was heard of this rollout for too long.
    #[error("another rollout took over from this one")]
    Lost,

    /// The fleet could not be read, or its catalog not migrated.
    #[error(transparent)]
    Fleet(#[from] FleetError),
}

impl From<ShardError> for RolloutError {
    fn from(error: ShardError) -> Self {
        Self::Fleet(error.into())
    }
}
