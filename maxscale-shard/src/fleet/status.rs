use std::cmp::Ordering;

use tokio::time::Instant;

use crate::topology::{Epoch, Topology};

/// What is known of the map that a router uses.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct MapStatus {
    /// The epoch of the map in use.
    pub epoch: Epoch,
    /// When the catalog last said that this is its newest map.
    pub confirmed: Option<Instant>,
    /// Why it did not say so since; routing goes on with the map in use.
    pub problem: Option<MapProblem>,
}

/// Why the catalog's map is not the one in use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MapProblem {
    /// It cannot be asked.
    #[error("the catalog cannot be asked: {0}")]
    Away(String),
    /// Its map is older, as after a backup was restored. [`Fleet::lift`](crate::Fleet::lift)
    /// puts the map in use above it.
    #[error("the catalog's map is of epoch {catalog}, older than {used}, which is in use")]
    Older {
        /// The catalog's epoch.
        catalog: Epoch,
        /// The epoch in use.
        used: Epoch,
    },
    /// Its map is another one of the same epoch, as after a backup was restored
    /// and changed again.
    #[error("the catalog has another map of epoch {0} than the one in use")]
    Other(Epoch),
    /// Where it was there is nothing.
    #[error("the catalog is gone: its database holds nothing of a fleet")]
    Gone,
    /// It is that of another fleet.
    #[error("the catalog is that of another fleet")]
    Foreign,
    /// Its map cannot be used here.
    #[error("the catalog's map cannot be used: {0}")]
    Refused(String),
}

// === impl MapProblem ===

impl MapProblem {
    /// What is wrong with the catalog's map beside the one in use. None if it is
    /// the same or a newer one.
    pub(super) fn between(used: &Topology, catalog: &Topology) -> Option<Self> {
        match catalog.epoch().cmp(&used.epoch()) {
            Ordering::Greater => None,
            Ordering::Equal => (catalog != used).then(|| Self::Other(used.epoch())),
            Ordering::Less => Some(Self::Older {
                catalog: catalog.epoch(),
                used: used.epoch(),
            }),
        }
    }
}
