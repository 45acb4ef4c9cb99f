//! Changing the map in its catalog.

use super::{Fleet, FleetError, NodeSpec, catalog};
use crate::error::ShardError;
use crate::router::ReloadError;
use crate::topology::{Epoch, Topology};

/// A map that was not stored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// Somebody else changed the map first: change that one.
    #[error("the catalog's map is of epoch {current}, so that of epoch {given} does not follow it")]
    Stale {
        /// The epoch in the catalog.
        current: Epoch,
        /// The epoch of the map that was to follow.
        given: Epoch,
    },

    /// The map cannot be used here, so it was not offered to others.
    #[error(transparent)]
    Reload(#[from] ReloadError),

    /// The catalog cannot be asked, or what it holds is no map. Where it is not
    /// known whether a change was stored, the fleet's status shows it.
    #[error(transparent)]
    Fleet(#[from] FleetError),
}

impl From<ShardError> for ChangeError {
    fn from(error: ShardError) -> Self {
        Self::Fleet(error.into())
    }
}

impl Fleet {
    /// Makes `next` the map of every router, if the catalog's newest is of the
    /// epoch before it: whoever changed the same map first has won.
    ///
    /// This router takes it at once; the others as soon as the catalog's
    /// announcement reaches them, or else at their next look. Nothing is moved:
    /// what a virtual shard holds has to be on its new node before.
    ///
    /// # Errors
    ///
    /// Returns [`ChangeError`]; the map is then as before, unless the catalog was
    /// lost before it answered.
    ///
    /// # Examples: another virtual shard for one tenant
    ///
    /// ```
    /// # use maxscale_core::fact::VirtualShard;
    /// # use maxscale_shard::{Fleet, Target, fleet::ChangeError};
    /// # async fn divert(fleet: &Fleet) -> Result<(), Box<dyn std::error::Error>> {
    /// let next = fleet.router().topology().change();
    /// let next = next.divert("acme", Target::Shard(VirtualShard::new(17))).build()?;
    /// fleet.change(next).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn change(&self, next: Topology) -> Result<(), ChangeError> {
        self.router.check(&next, &self.specs())?;
        let before = Epoch::new(next.epoch().get().saturating_sub(1));
        self.put(before, next).await
    }

    /// Puts the map in use into the catalog again, above every epoch that the
    /// catalog or this router has seen: for a catalog that was restored from a
    /// backup. Gives the new epoch.
    ///
    /// # Errors
    ///
    /// Returns [`ChangeError`]; the map is then as before.
    pub async fn lift(&self) -> Result<Epoch, ChangeError> {
        let (_, stored) = catalog::newest(&self.catalog(), &self.charter.keyspace).await?;
        let used = self.router.topology();
        let epoch = Epoch::new(used.epoch().max(stored.epoch()).get().saturating_add(1));
        let next = used.change().epoch(epoch).build();
        let next = next.map_err(FleetError::from)?;
        self.put(stored.epoch(), next).await?;
        Ok(epoch)
    }

    /// The newest maps of the catalog, the newest first.
    ///
    /// # Errors
    ///
    /// Returns [`FleetError`] when the catalog cannot be asked, or holds what is no map.
    pub async fn history(&self, most: u32) -> Result<Vec<Topology>, FleetError> {
        catalog::history(&self.catalog(), &self.charter.keyspace, most).await
    }

    async fn put(&self, before: Epoch, next: Topology) -> Result<(), ChangeError> {
        let given = next.epoch();
        match catalog::put(&self.catalog(), before, &next).await? {
            Ok(()) => {
                let taken = self.router.reload(next, &self.specs());
                self.hint.notify_one();
                // A command that changes the map ends before the follower gets to it.
                self.keeper.keep().await;
                match taken {
                    // The follower was faster, or somebody has changed it again.
                    Ok(()) | Err(ReloadError::Stale { .. }) => Ok(()),
                    Err(error) => Err(error.into()),
                }
            }
            Err(current) => Err(ChangeError::Stale { current, given }),
        }
    }

    fn specs(&self) -> Vec<NodeSpec> {
        self.charter.specs().cloned().collect()
    }
}
