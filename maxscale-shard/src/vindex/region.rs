use std::fmt;
use std::ops::Range;
use std::str::FromStr;
use std::sync::Arc;

use maxscale_core::fact::{RegionId, VirtualShard};

use crate::key::{Key, KeyError};

/// Which range of virtual shards each region owns. Cheap to clone.
///
/// What lives in a region keeps to its range however its key hashes, so a range
/// that only nodes of that region hold keeps the data there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Regions(Arc<[RegionRange]>);

/// The virtual shards from `base` on, `size` of them, are the region's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegionRange {
    region: RegionId,
    base: u32,
    size: u32,
}

/// Ranges of regions that cannot be.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum RegionsError {
    /// There is no region at all.
    #[error("a keyspace split by region has at least one region")]
    None,
    /// A region has no virtual shard.
    #[error("region {0} has no virtual shards")]
    Empty(RegionId),
    /// A region has two ranges.
    #[error("region {0} is listed twice")]
    Twice(RegionId),
    /// Two regions own one virtual shard.
    #[error("regions {0} and {1} overlap")]
    Overlap(RegionId, RegionId),
    /// A range ends beyond the keyspace.
    #[error("region {region} ends at {end}, and there are {count} virtual shards")]
    Beyond {
        /// The region.
        region: RegionId,
        /// The first virtual shard behind its range.
        end: u64,
        /// The keyspace's number of virtual shards.
        count: u32,
    },
    /// A stored range is not `name=base+size`.
    #[error("{0:?} is not name=base+size")]
    Unreadable(String),
}

// === impl RegionRange ===

impl RegionRange {
    /// `size` virtual shards from `base` on.
    pub const fn new(region: RegionId, base: u32, size: u32) -> Self {
        Self { region, base, size }
    }

    /// The region's name.
    pub const fn region(&self) -> &RegionId {
        &self.region
    }

    /// The first virtual shard.
    pub const fn base(&self) -> u32 {
        self.base
    }

    /// How many virtual shards.
    pub const fn size(&self) -> u32 {
        self.size
    }

    /// The virtual shards, as far as a number can name them.
    pub const fn shards(&self) -> Range<u32> {
        self.base..self.base.saturating_add(self.size)
    }

    fn end(&self) -> u64 {
        u64::from(self.base) + u64::from(self.size)
    }
}

// === impl Regions ===

impl Regions {
    /// The regions with their ranges, which may leave virtual shards to nobody.
    ///
    /// # Errors
    ///
    /// Returns [`RegionsError`] for no region, a doubled or an empty one, or an overlap.
    pub fn new(ranges: impl IntoIterator<Item = RegionRange>) -> Result<Self, RegionsError> {
        let mut ranges: Vec<RegionRange> = ranges.into_iter().collect();
        ranges.sort_by_key(|range| range.base);
        if ranges.is_empty() {
            return Err(RegionsError::None);
        }
        for (at, range) in ranges.iter().enumerate() {
            let region = || range.region.clone();
            if range.size == 0 {
                return Err(RegionsError::Empty(region()));
            }
            if ranges[..at].iter().any(|r| r.region == range.region) {
                return Err(RegionsError::Twice(region()));
            }
            if let Some(before) = at.checked_sub(1).map(|before| &ranges[before])
                && before.end() > u64::from(range.base)
            {
                return Err(RegionsError::Overlap(before.region.clone(), region()));
            }
        }
        Ok(Self(ranges.into()))
    }

    /// The ranges, by their bases.
    pub fn ranges(&self) -> &[RegionRange] {
        &self.0
    }

    /// The range of `region`.
    pub fn range(&self, region: &RegionId) -> Option<&RegionRange> {
        self.0.iter().find(|range| range.region == *region)
    }

    /// The region that owns `shard`.
    pub fn owner(&self, shard: VirtualShard) -> Option<&RegionId> {
        let owns = |range: &&RegionRange| range.shards().contains(&shard.get());
        self.0.iter().find(owns).map(RegionRange::region)
    }

    pub(super) fn of(&self, key: Key<'_>) -> Result<&RegionRange, KeyError> {
        let region = key.region().ok_or(KeyError::NoRegion)?;
        self.range(region)
            .ok_or_else(|| KeyError::UnknownRegion(region.clone()))
    }

    pub(crate) fn fit(&self, count: u32) -> Result<(), RegionsError> {
        match self.0.iter().find(|range| range.end() > u64::from(count)) {
            None => Ok(()),
            Some(range) => Err(RegionsError::Beyond {
                region: range.region.clone(),
                end: range.end(),
                count,
            }),
        }
    }
}

impl fmt::Display for Regions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, RegionRange { region, base, size }) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma}{region}={base}+{size}")?;
        }
        Ok(())
    }
}

impl FromStr for Regions {
    type Err = RegionsError;

    fn from_str(text: &str) -> Result<Self, RegionsError> {
        let read = |range: &str| {
            let (region, numbers) = range.split_once('=')?;
            let (base, size) = numbers.split_once('+')?;
            let region = RegionId::new(region)?;
            Some(RegionRange::new(
                region,
                base.parse().ok()?,
                size.parse().ok()?,
            ))
        };
        let ranges: Result<Vec<RegionRange>, RegionsError> = (text.split(','))
            .map(|range| read(range).ok_or_else(|| RegionsError::Unreadable(range.to_owned())))
            .collect();
        Self::new(ranges?)
    }
}
