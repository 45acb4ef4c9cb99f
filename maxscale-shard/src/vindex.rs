mod region;

use std::fmt;
use std::str::FromStr;

use maxscale_core::fact::VirtualShard;
use md5::{Digest, Md5};
use sha2::Sha256;
use xxhash_rust::xxh3::xxh3_64;

use crate::key::{Key, KeyError};

pub use region::{RegionRange, Regions, RegionsError};

/// Maps a key to a virtual shard. Pure; the same answer for ever.
///
/// A keyspace has one, chosen when it is created, for the keys that are text.
/// An [`Id`](maxscale_core::id::Id) carries its virtual shard and is read from
/// its bits whatever the vindex. All but [`Xxh3`](Self::Xxh3) can be answered
/// by PostgreSQL as well, so that data can be checked where it lies.
///
/// `Display` and `FromStr` are the name by which it is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Vindex {
    /// The bits of the id: every key is an id, also one that is given as text.
    #[default]
    Id,
    /// `ABS(('x' || md5(key))::bit(64)::bigint % count)`.
    Md5,
    /// The first 8 hex digits of sha256 as an unsigned integer, modulo the count.
    Sha256,
    /// XXH3 of 64 bits with seed 0 as an unsigned integer, modulo the count.
    Xxh3,
    /// Each region has a range: its base + [`Md5`](Self::Md5) modulo its size.
    Region(Regions),
}

/// A stored name that names no vindex.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum VindexError {
    /// There is no vindex of that name.
    #[error("{0:?} is none of id, md5, sha256, xxh3 and region:…")]
    Unknown(String),
    /// The regions of it cannot be.
    #[error(transparent)]
    Regions(#[from] RegionsError),
}

// === impl Vindex ===

impl Vindex {
    /// The virtual shard of `key` among `count`.
    ///
    /// The empty text has a place too; it is the router that refuses it.
    ///
    /// # Errors
    ///
    /// Returns [`KeyError::NotAnId`] where only ids have a place,
    /// [`KeyError::NoRegion`] and [`KeyError::UnknownRegion`] where regions have ranges.
    ///
    /// # Panics
    ///
    /// Panics if `count` is 0.
    pub fn shard<'k>(&self, key: impl Into<Key<'k>>, count: u32) -> Result<VirtualShard, KeyError> {
        let key = key.into();
        if let Some(id) = key.id() {
            return Ok(id.shard());
        }
        let slot = match self {
            Self::Id => return Ok(key.read_id().map_err(KeyError::NotAnId)?.shard()),
            Self::Md5 => fold(md5(key), count),
            Self::Sha256 => key.with_text(|text| sha256(text.as_bytes(), count)),
            Self::Xxh3 => key.with_text(|text| xxh3(text.as_bytes(), count)),
            Self::Region(regions) => {
                let range = regions.of(key)?;
                range.base() + fold(md5(key), range.size())
            }
        };
        Ok(VirtualShard::new(slot))
    }
}

impl fmt::Display for Vindex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id => f.write_str("id"),
            Self::Md5 => f.write_str("md5"),
            Self::Sha256 => f.write_str("sha256"),
            Self::Xxh3 => f.write_str("xxh3"),
            Self::Region(regions) => write!(f, "{REGION}{regions}"),
        }
    }
}

impl FromStr for Vindex {
    type Err = VindexError;

    fn from_str(name: &str) -> Result<Self, VindexError> {
        Ok(match name {
            "id" => Self::Id,
            "md5" => Self::Md5,
            "sha256" => Self::Sha256,
            "xxh3" => Self::Xxh3,
            _ => match name.strip_prefix(REGION) {
                Some(regions) => Self::Region(regions.parse()?),
                None => return Err(VindexError::Unknown(name.to_owned())),
            },
        })
    }
}

const REGION: &str = "region:";

fn md5(key: Key<'_>) -> i64 {
    let digest: [u8; 16] = key.with_text(|text| Md5::digest(text).into());
    i64::from_be_bytes(first(&digest))
}

pub(crate) fn sha256(bytes: &[u8], count: u32) -> u32 {
    let digest: [u8; 32] = Sha256::digest(bytes).into();
    u32::from_be_bytes(first(&digest)) % count
}

fn xxh3(bytes: &[u8], count: u32) -> u32 {
    let remainder = xxh3_64(bytes) % u64::from(count);
    u32::try_from(remainder).expect(SMALLER)
}

fn first<const N: usize>(digest: &[u8]) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&digest[..N]);
    bytes
}

// PostgreSQL's `%` takes the dividend's sign, as Rust's does; the remainder's
// absolute value always fits, also for i64::MIN.
fn fold(hash: i64, count: u32) -> u32 {
    let remainder = (hash % i64::from(count)).unsigned_abs();
    u32::try_from(remainder).expect(SMALLER)
}

const SMALLER: &str = "a remainder is smaller than its u32 divisor";

#[cfg(test)]
mod tests;
