//! Pins as a keyspace understands them.

use std::ops::Range;
use std::sync::Arc;

use maxscale_core::fact::{RegionId, VirtualShard};

use super::{Pinned, Residency, ResidencyError};
use crate::key::Key;
use crate::keyspace::Keyspace;
use crate::vindex::Vindex;

/// Where the servers of a node stand, as far as somebody said so.
pub(crate) type Stand = Vec<Option<RegionId>>;

/// The pins of a keyspace.
#[derive(Debug, Default)]
pub(crate) struct Bound {
    pub(super) pins: Vec<BoundPin>,
    /// Those of virtual shards.
    ranges: Vec<usize>,
    /// By text and region, so that a look costs no allocation.
    keys: Vec<KeyPin>,
}

#[derive(Debug)]
pub(super) struct BoundPin {
    pub(super) what: Pinned,
    pub(super) regions: Arc<[RegionId]>,
    /// The virtual shards that it keeps as such.
    pub(super) shards: Range<u32>,
}

#[derive(Debug)]
pub(super) struct KeyPin {
    text: String,
    region: Option<RegionId>,
    pub(super) own: VirtualShard,
    pub(super) pin: usize,
}

// === impl Bound ===

impl Bound {
    /// The pins of `residency`, for `keyspace` on nodes that stand so.
    pub(crate) fn new(
        residency: &Residency,
        keyspace: &Keyspace,
        nodes: &[Stand],
    ) -> Result<Self, ResidencyError> {
        let (mut pins, mut keys) = (Vec::new(), Vec::new());
        for pin in &residency.pins {
            let what = &pin.what;
            if pin.regions.is_empty() {
                return Err(ResidencyError::NoRegion(what.clone()));
            }
            let stands =
                |region: &&RegionId| nodes.iter().flatten().flatten().any(|r| r == *region);
            if let Some(region) = pin.regions.iter().find(|region| !stands(region)) {
                return Err(ResidencyError::NoServer {
                    pinned: what.clone(),
                    region: region.clone(),
                });
            }
            let bound = BoundPin {
                what: what.clone(),
                regions: pin.regions.clone(),
                shards: shards(what, keyspace)?,
            };
            if !nodes.iter().any(|stand| bound.allows(stand)) {
                return Err(ResidencyError::NoNode(what.clone()));
            }
            if let Some(key) = &pin.key {
                let read = keyspace.read(key.key());
                let (own, key) = read.map_err(|error| ResidencyError::Key(error.into()))?;
                keys.push(KeyPin {
                    text: key.with_text(str::to_owned),
                    region: key.region().cloned(),
                    own,
                    pin: pins.len(),
                });
            }
            pins.push(bound);
        }
        keys.sort_by(|a, b| a.name().cmp(&b.name()));
        // There may be thousands of keys.
        let is_range = |pin: &BoundPin| !pin.shards.is_empty();
        let ranges = (0..pins.len()).filter(|at| is_range(&pins[*at])).collect();
        Ok(Self { pins, ranges, keys })
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.pins.is_empty()
    }

    /// Whether a key is pinned by itself.
    pub(super) const fn has_keys(&self) -> bool {
        !self.keys.is_empty()
    }

    /// The pins of a virtual shard.
    pub(super) fn of_shard(&self, shard: VirtualShard) -> impl Iterator<Item = usize> {
        let ranges = self.ranges.iter().copied();
        ranges.filter(move |at| self.pins[*at].shards.contains(&shard.get()))
    }

    /// The pins of a key itself, in the form that names it in the keyspace.
    pub(super) fn of_key(&self, key: Key<'_>) -> impl Iterator<Item = usize> {
        let found = key.with_text(|text| {
            let wanted = (text, key.region());
            let first = self.keys.partition_point(|pin| pin.name() < wanted);
            let more = &self.keys[first..];
            &more[..more.partition_point(|pin| pin.name() == wanted)]
        });
        found.iter().map(|key| key.pin)
    }

    /// The pins of a table.
    pub(super) fn of_table(&self, table: &str) -> impl Iterator<Item = usize> {
        let is = move |pin: &BoundPin| matches!(&pin.what, Pinned::Table(name) if **name == *table);
        let pins = self.pins.iter().enumerate();
        pins.filter(move |(_, pin)| is(pin)).map(|(at, _)| at)
    }

    pub(super) fn keys(&self) -> &[KeyPin] {
        &self.keys
    }
}

// === impl BoundPin ===

impl BoundPin {
    /// Whether each server of a node that stands so is inside.
    pub(super) fn allows(&self, stand: &Stand) -> bool {
        self.foreign(stand).is_none()
    }

    /// Where the first server stands that is outside.
    pub(super) fn foreign<'s>(&self, stand: &'s Stand) -> Option<&'s Option<RegionId>> {
        stand.iter().find(|region| match region {
            Some(region) => !self.regions.contains(region),
            None => true,
        })
    }
}

// === impl KeyPin ===

impl KeyPin {
    fn name(&self) -> (&str, Option<&RegionId>) {
        (&self.text, self.region.as_ref())
    }

    /// The key, in the form that names it in the keyspace.
    pub(super) fn key(&self) -> Key<'_> {
        let key = Key::from(&self.text);
        match &self.region {
            Some(region) => key.within(region),
            None => key,
        }
    }
}

/// The virtual shards that a pin keeps as such.
fn shards(what: &Pinned, keyspace: &Keyspace) -> Result<Range<u32>, ResidencyError> {
    match what {
        Pinned::Home(home) => {
            let range = match keyspace.vindex() {
                Vindex::Region(regions) => regions.range(home),
                _ => None,
            };
            let range = range.ok_or_else(|| ResidencyError::NoHome(home.clone()))?;
            Ok(range.shards())
        }
        Pinned::Shards(shards) if shards.is_empty() || shards.end > keyspace.shards() => {
            Err(ResidencyError::Beyond {
                shards: shards.clone(),
                count: keyspace.shards(),
            })
        }
        Pinned::Shards(shards) => Ok(shards.clone()),
        Pinned::Key | Pinned::Table(_) => Ok(0..0),
    }
}
