use maxscale_core::refusal::{Class, Classify};

use super::{OnFailure, OrderError};
use crate::error::ShardError;
use crate::topology::NodeId;

/// A scatter that gave no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScatterError {
    /// The router is one under which nothing is scattered
    /// ([`Router::deny_scatter`](crate::Router::deny_scatter)).
    #[error("this router asks no question of all nodes")]
    Denied,

    /// The statement cannot be asked of every node. Nothing was asked.
    #[error("the statement cannot be scattered: {why}")]
    Text {
        /// What is wrong with it.
        why: &'static str,
    },

    /// The order is none.
    #[error(transparent)]
    Order(#[from] OrderError),

    /// The map has keys on other nodes than their virtual shard, and the
    /// scatter does not say which column holds the key
    /// ([`Scatter::key`](super::Scatter::key)). Nothing was asked.
    #[error("keys have a node of their own, and the scatter names no column for them")]
    NoKeyColumn,

    /// A virtual shard lies outside the keyspace, or a leg would stand outside the
    /// regions of what the scatter is about. Nothing was asked.
    #[error(transparent)]
    Shard(ShardError),

    /// Rows of that many nodes cannot be merged at once
    /// ([`ScatterLimits::legs`](super::ScatterLimits::legs)). Nothing was asked.
    #[error("{legs} nodes are to be asked at once, and {most} may be")]
    TooManyLegs {
        /// The nodes to ask.
        legs: usize,
        /// The limit.
        most: usize,
    },

    /// A page would have no row, or too many. Nothing was asked.
    #[error("a page has 1 to {most} rows, not {asked}")]
    PageSize {
        /// The rows asked for.
        asked: u32,
        /// The limit.
        most: u32,
    },

    /// The cursor was changed, or belongs to another listing. Nothing was asked.
    #[cfg(feature = "cursor")]
    #[error("the cursor is not one of this listing")]
    Cursor(#[source] super::CursorError),

    /// There was no cursor to be had for the next page.
    #[cfg(feature = "cursor")]
    #[error("the next page has no cursor")]
    NoCursor(#[source] super::CursorError),

    /// Two rows of a listing have the same place, so that pages could lose one:
    /// its order needs one more column.
    #[error("the order of the listing does not tell two rows apart")]
    NotUnique,

    /// A sum is no 64-bit integer.
    #[error("the sum of {column} does not fit")]
    Overflow {
        /// The column.
        column: String,
    },

    /// A column of other values than integers cannot be summed up.
    #[error("column {column} holds something else than integers")]
    NotIntegers {
        /// The column.
        column: String,
    },

    /// Fewer nodes answered than [`OnFailure`] wants.
    #[error("{answered} of {asked} nodes answered, and {wanted} were wanted", asked = .answered + .failures.len())]
    Failed {
        /// How many answered until it was given up.
        answered: usize,
        /// What was wanted.
        wanted: Wanted,
        /// The others; with [`OnFailure::FailFast`] the first alone.
        failures: Vec<LegError>,
    },
}

/// How many nodes had to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Wanted {
    /// Each of them.
    All,
    /// At least that many.
    AtLeast(usize),
}

/// A node that gave no answer.
#[derive(Debug, thiserror::Error)]
#[error("{node} did not answer")]
#[non_exhaustive]
pub struct LegError {
    /// The node.
    pub node: NodeId,
    /// Why not.
    pub source: ShardError,
}

// === impl ScatterError ===

impl Classify for ScatterError {
    fn class(&self) -> Class {
        match self {
            #[cfg(feature = "cursor")]
            Self::Cursor(_) => Class::Invalid,
            Self::PageSize { .. } | Self::Order(_) => Class::Invalid,
            Self::Shard(error) => error.class(),
            // Whatever the others said, with this one it cannot go well.
            Self::Failed { failures, .. } => {
                let classes = failures.iter().map(|failure| failure.source.class());
                let worst = classes.max_by_key(|class| match class {
                    Class::Timeout => 0,
                    Class::Unavailable => 1,
                    _ => 2,
                });
                worst.unwrap_or(Class::Unavailable)
            }
            _ => Class::Internal,
        }
    }
}

// === impl Wanted ===

impl From<OnFailure> for Wanted {
    fn from(on_failure: OnFailure) -> Self {
        match on_failure {
            OnFailure::BestEffort { min_ok } => Self::AtLeast(min_ok),
            OnFailure::FailFast | OnFailure::AllOrNothing => Self::All,
        }
    }
}

impl std::fmt::Display for Wanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::AtLeast(count) => write!(f, "{count}"),
        }
    }
}
