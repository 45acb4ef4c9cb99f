//! Which nodes a scatter may ask, by the regions that its keys and tables are pinned to.

use std::sync::Arc;

use maxscale_core::fact::VirtualShard;

use super::{Scatter, ScatterError};
use crate::error::ShardError;
use crate::key::Key;
use crate::residency::{Asked, Verdict};
use crate::topology::{Instead, Topology};

/// What holds for the legs of one scatter.
pub(super) struct Reside<'s> {
    scatter: &'s Scatter,
    map: &'s Topology,
    residency: &'s Verdict,
    /// The pins of whatever each leg is told.
    pins: Vec<usize>,
}

impl<'s> Reside<'s> {
    pub(super) fn new(
        scatter: &'s Scatter,
        map: &'s Topology,
        residency: &'s Verdict,
    ) -> Result<Self, ScatterError> {
        let mut pins = residency.of_tables(scatter.router.tables());
        for about in &scatter.about {
            let read = scatter.router.whole_keyspace().read(about.key());
            let (own, key) = read.map_err(ScatterError::Shard)?;
            let lies = match map.instead(key) {
                Some((_, Instead::Shard(shard))) => shard,
                _ => own,
            };
            pins.extend(residency.of_key(own, lies, key));
        }
        Ok(Self {
            scatter,
            map,
            residency,
            pins,
        })
    }

    /// Whether the node at `place` is asked at all.
    pub(super) fn asks(&self, place: u16) -> bool {
        let within = self.scatter.within.as_deref();
        within.is_none_or(|regions| self.residency.stands_in(place, regions))
    }

    /// Why a virtual shard may not be asked for there.
    pub(super) fn shard(&self, shard: VirtualShard, place: u16) -> Option<ShardError> {
        let asked = Asked {
            shard,
            node: place,
            key: None,
            tables: &[],
        };
        let pin = self.residency.breaks(&asked)?;
        Some(self.outside(pin, shard, place))
    }

    /// Why a key may not be named there.
    pub(super) fn key(&self, key: Key<'_>, own: VirtualShard, place: u16) -> Option<ShardError> {
        let pins = self.residency.of_key(own, own, key);
        let pin = self.residency.first_broken(&pins, place)?;
        Some(self.outside(pin, own, place))
    }

    /// Refuses all if the leg to `place` may not be told what it would be told.
    pub(super) fn leg(&self, shard: VirtualShard, place: u16) -> Result<(), ScatterError> {
        match self.residency.first_broken(&self.pins, place) {
            Some(pin) => Err(ScatterError::Shard(self.outside(pin, shard, place))),
            None => Ok(()),
        }
    }

    fn outside(&self, pin: usize, shard: VirtualShard, place: u16) -> ShardError {
        let node = &self.map.nodes()[usize::from(place)];
        let outside = self.residency.tell(pin, shard, place, node);
        ShardError::Residency(Arc::new(outside))
    }
}
