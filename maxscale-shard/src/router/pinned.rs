//! What a router may not be asked, as it stands in a region where it must not.

use std::sync::{Arc, PoisonError};

use super::{Map, Router};
use crate::residency::{Bound, Residency, ResidencyError, Stand};

impl Router {
    /// The same router for statements about `table`: where a
    /// [pin](Residency::pin_table) keeps that table to regions, what lies elsewhere
    /// is refused ([`ShardError::Residency`](crate::ShardError::Residency)), be it
    /// one shard or a leg of a [scatter](Self::scatter). Of a table without a pin
    /// it is as this one. Named again, both tables hold.
    ///
    /// # Examples: may this row be read where its user lies?
    ///
    /// ```
    /// # use maxscale_core::id::Id;
    /// # use maxscale_shard::{Router, Shard, ShardError};
    /// # fn records(router: &Router, user: Id) -> Result<Shard, ShardError> {
    /// let records = router.table("health_record");
    /// records.shard(user)
    /// # }
    /// ```
    #[must_use]
    pub fn table(&self, table: impl Into<Arc<str>>) -> Self {
        let Self(inner, gate, tables) = self;
        let tables = tables.iter().cloned().chain([table.into()]).collect();
        Self(inner.clone(), gate.clone(), tables)
    }

    /// Sets what is pinned to which regions, from now on, for this router and all
    /// its clones. Pins from before are forgotten. What the map puts outside is
    /// told in the log, and refused.
    ///
    /// The router of a [`Fleet`](crate::Fleet) has the pins of its
    /// [configuration](crate::FleetConfig::residency) to begin with.
    ///
    /// # Errors
    ///
    /// Returns [`ResidencyError`] for pins that cannot be; those from before stay.
    pub fn pin(&self, residency: &Residency) -> Result<(), ResidencyError> {
        let Self(inner, ..) = self;
        // What is guarded is the swap itself: a panic elsewhere left it whole.
        let _alone = (inner.reloading.lock()).unwrap_or_else(PoisonError::into_inner);
        let old = inner.map.load_full();
        let stands: Vec<Stand> = old.nodes.iter().map(super::Node::stand).collect();
        let bound = Bound::new(residency, &inner.keyspace, &stands)?;
        let (topology, nodes) = (old.topology.clone(), old.nodes.clone());
        let map = Map::new(&inner.keyspace, topology, nodes, Arc::new(bound));
        inner.map.store(Arc::new(map));
        Ok(())
    }
}
