use std::fmt;

use maxscale_core::fact::VirtualShard;
use maxscale_core::id::{Id, KeyspaceTag};

use crate::error::ShardError;
use crate::key::{Key, KeyError};
use crate::topology::Topology;
use crate::vindex::{RegionsError, Vindex, VindexError};

/// What is fixed for ever when a keyspace is created: the tag that its ids
/// carry, the number of its virtual shards, and where a key lies among them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keyspace {
    tag: KeyspaceTag,
    shards: u32,
    vindex: Vindex,
}

/// A keyspace that cannot be, or is not the one that was stored.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyspaceError {
    /// No virtual shard, or too many.
    #[error("a keyspace has 1 to {max} virtual shards, not {0}", max = Topology::MAX_SHARDS)]
    Count(u32),
    /// A stored tag is none.
    #[error("a keyspace has a tag of 0 to 31, not {0}")]
    Tag(i64),
    /// A stored vindex is none that this version knows.
    #[error(transparent)]
    Vindex(#[from] VindexError),
    /// The vindex has regions that do not fit.
    #[error(transparent)]
    Regions(#[from] RegionsError),
    /// Another number of virtual shards is stored.
    #[error("the keyspace has {stored} virtual shards for ever, {given} are configured")]
    OtherCount {
        /// The number of the first start.
        stored: u32,
        /// The number now.
        given: u32,
    },
    /// Another vindex is stored.
    #[error("the keyspace has the vindex {stored} for ever, {given} is configured")]
    OtherVindex {
        /// The vindex of the first start.
        stored: Vindex,
        /// The vindex now.
        given: Vindex,
    },
    /// Another tag is stored.
    #[error("the keyspace has the tag {stored} for ever, {given} is configured", stored = .stored.get(), given = .given.get())]
    OtherTag {
        /// The tag of the first start.
        stored: KeyspaceTag,
        /// The tag now.
        given: KeyspaceTag,
    },
}

// === impl Keyspace ===

impl Keyspace {
    /// The number of virtual shards unless chosen otherwise at creation.
    pub const DEFAULT_SHARDS: u32 = 1024;

    /// A keyspace of `shards` virtual shards.
    ///
    /// # Errors
    ///
    /// Returns [`KeyspaceError::Count`] for none or too many,
    /// [`KeyspaceError::Regions`] for a region that ends beyond them.
    pub fn new(tag: KeyspaceTag, shards: u32, vindex: Vindex) -> Result<Self, KeyspaceError> {
        if !(1..=Topology::MAX_SHARDS).contains(&shards) {
            return Err(KeyspaceError::Count(shards));
        }
        if let Vindex::Region(regions) = &vindex {
            regions.fit(shards)?;
        }
        Ok(Self {
            tag,
            shards,
            vindex,
        })
    }

    /// The tag that the keyspace's ids carry.
    pub const fn tag(&self) -> KeyspaceTag {
        self.tag
    }

    /// The number of virtual shards.
    pub const fn shards(&self) -> u32 {
        self.shards
    }

    /// Where a key that is text lies.
    pub const fn vindex(&self) -> &Vindex {
        &self.vindex
    }

    /// The virtual shard of `key`, overrides aside: those are the map's.
    ///
    /// # Errors
    ///
    /// Returns [`ShardError::Key`] for an empty key or one of the wrong kind,
    /// [`ShardError::WrongKeyspace`] and [`ShardError::OutOfRange`] for an id
    /// of another keyspace.
    pub fn shard<'k>(&self, key: impl Into<Key<'k>>) -> Result<VirtualShard, ShardError> {
        self.read(key.into()).map(|(shard, _)| shard)
    }

    /// The virtual shard of `key`, and the key in the one form that names it here.
    pub(crate) fn read<'k>(&self, key: Key<'k>) -> Result<(VirtualShard, Key<'k>), ShardError> {
        if key.is_empty() {
            return Err(KeyError::Empty.into());
        }
        let id = match (key.id(), &self.vindex) {
            (Some(id), _) => id,
            (None, Vindex::Id) => key.read_id().map_err(KeyError::NotAnId)?,
            (None, Vindex::Region(_)) => return Ok((self.vindex.shard(key, self.shards)?, key)),
            (None, _) => return Ok((self.vindex.shard(key, self.shards)?, key.anywhere())),
        };
        Ok((self.shard_of(id)?, id.into()))
    }

    /// The virtual shards of a key of which only the text and the region were kept:
    /// that of the text, and that of the id which it may be.
    pub(crate) fn shards_of_name(&self, key: Key<'_>) -> [Option<VirtualShard>; 2] {
        let by_text = self.shard(key).ok();
        let by_id = key.read_id().ok().and_then(|id| self.shard_of(id).ok());
        [by_text, by_id.filter(|shard| Some(*shard) != by_text)]
    }

    fn shard_of(&self, id: Id) -> Result<VirtualShard, ShardError> {
        if id.keyspace() != self.tag {
            return Err(ShardError::WrongKeyspace {
                found: id.keyspace(),
                expected: self.tag,
            });
        }
        let (shard, count) = (id.shard(), self.shards);
        if shard.get() < count {
            Ok(shard)
        } else {
            Err(ShardError::OutOfRange { shard, count })
        }
    }

    /// Compares with the keyspace that was `stored` when it was created.
    ///
    /// # Errors
    ///
    /// Returns [`KeyspaceError::OtherCount`], [`KeyspaceError::OtherVindex`] or
    /// [`KeyspaceError::OtherTag`]: with any of them keys would be looked for
    /// where they do not lie.
    pub fn agree(&self, stored: &Self) -> Result<(), KeyspaceError> {
        if self.shards != stored.shards {
            return Err(KeyspaceError::OtherCount {
                stored: stored.shards,
                given: self.shards,
            });
        }
        if self.vindex != stored.vindex {
            return Err(KeyspaceError::OtherVindex {
                stored: stored.vindex.clone(),
                given: self.vindex.clone(),
            });
        }
        if self.tag != stored.tag {
            return Err(KeyspaceError::OtherTag {
                stored: stored.tag,
                given: self.tag,
            });
        }
        Ok(())
    }
}

impl Default for Keyspace {
    /// [`Keyspace::DEFAULT_SHARDS`] virtual shards, found by id, with the tag 0.
    fn default() -> Self {
        Self {
            tag: KeyspaceTag::default(),
            shards: Self::DEFAULT_SHARDS,
            vindex: Vindex::Id,
        }
    }
}

impl fmt::Display for Keyspace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            tag,
            shards,
            vindex,
        } = self;
        write!(
            f,
            "keyspace {} of {shards} virtual shards by {vindex}",
            tag.get()
        )
    }
}

#[cfg(test)]
mod tests {
    use maxscale_core::clock::Clock;
    use maxscale_core::id::IdGenerator;
    use maxscale_core::refusal::{Class, Classify};

    use super::*;

    fn keyspace(vindex: &str) -> Keyspace {
        Keyspace::new(tag(3), 1024, vindex.parse().unwrap()).unwrap()
    }

    fn tag(number: u8) -> KeyspaceTag {
        KeyspaceTag::new(number).unwrap()
    }

    #[test]
    fn empty_key_is_refused_although_it_has_a_place() {
        for vindex in ["id", "md5", "sha256", "xxh3", "region:eu=0+4"] {
            let refused = keyspace(vindex).shard("").unwrap_err();
            assert!(matches!(refused, ShardError::Key(KeyError::Empty)));
            assert_eq!(refused.class(), Class::Invalid);
        }
        assert!(Vindex::Md5.shard("", 1024).is_ok());
    }

    #[test]
    fn id_of_another_keyspace_is_refused_however_it_is_given() {
        let here = keyspace("id");
        let draw =
            |tag, shard| IdGenerator::new(Clock::system(), tag).draw(VirtualShard::new(shard));
        let (other, far) = (draw(tag(4), 7), draw(tag(3), 1024));
        for key in [
            other.into(),
            other.as_uuid().into(),
            Key::from(&*other.to_string()),
        ] {
            let refused = here.shard(key);
            assert!(matches!(refused, Err(ShardError::WrongKeyspace { .. })));
        }
        let refused = here.shard(&far.to_string());
        assert!(matches!(refused, Err(ShardError::OutOfRange { .. })));
        assert_eq!(here.shard(draw(tag(3), 1023)).unwrap().get(), 1023);
    }

    #[test]
    fn keyspace_that_is_not_the_stored_one_is_refused() {
        let stored = keyspace("md5");
        let given = |tag, shards, vindex| Keyspace::new(tag, shards, vindex).unwrap();
        assert_eq!(given(tag(3), 1024, Vindex::Md5).agree(&stored), Ok(()));
        assert!(matches!(
            given(tag(3), 1000, Vindex::Md5).agree(&stored),
            Err(KeyspaceError::OtherCount {
                stored: 1024,
                given: 1000
            })
        ));
        assert!(matches!(
            given(tag(3), 1024, Vindex::Id).agree(&stored),
            Err(KeyspaceError::OtherVindex { .. })
        ));
        assert!(matches!(
            given(tag(2), 1024, Vindex::Md5).agree(&stored),
            Err(KeyspaceError::OtherTag { .. })
        ));
    }

    #[test]
    fn impossible_keyspaces_are_refused() {
        let new = |shards, vindex: &str| Keyspace::new(tag(0), shards, vindex.parse().unwrap());
        assert_eq!(new(0, "id"), Err(KeyspaceError::Count(0)));
        assert_eq!(new(131_073, "id"), Err(KeyspaceError::Count(131_073)));
        assert!(new(131_072, "id").is_ok() && new(1, "id").is_ok());
        assert!(matches!(
            new(255, "region:eu=0+256"),
            Err(KeyspaceError::Regions(RegionsError::Beyond { .. }))
        ));
    }
}
