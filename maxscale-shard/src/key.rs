use std::io::Write as _;
use std::str;

use maxscale_core::fact::RegionId;
use maxscale_core::id::{Id, IdError};
use uuid::Uuid;
use uuid::fmt::Hyphenated;

/// What a row is found by: an id, or anything that has one text.
///
/// The text's bytes are pinned: a UUID is lower-case with hyphens, an integer
/// decimal, text as it is, neither trimmed nor normalised. So `md5(key::text)`
/// in PostgreSQL sees the same bytes.
///
/// An [`Id`] carries its virtual shard in any keyspace; any other UUID is text.
#[derive(Clone, Copy, Debug)]
pub struct Key<'k> {
    name: Name<'k>,
    region: Option<&'k RegionId>,
}

/// A key that is kept, as it was given.
#[derive(Clone, Debug)]
pub(crate) struct OwnedKey {
    text: String,
    id: Option<Id>,
    region: Option<RegionId>,
}

#[derive(Clone, Copy, Debug)]
enum Name<'k> {
    Id(Id),
    Uuid(Uuid),
    Integer(i64),
    Text(&'k str),
}

/// A key that has no place in its keyspace.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The key is the empty text.
    #[error("the key is empty")]
    Empty,

    /// The keyspace's vindex reads ids alone.
    #[error("the key is no id, and the keyspace has only ids")]
    NotAnId(#[source] IdError),

    /// The keyspace's vindex is by region.
    #[error("the key names no region, and the keyspace is split by region")]
    NoRegion,

    /// The keyspace has no such region.
    #[error("the keyspace has no region {0}")]
    UnknownRegion(RegionId),
}

// === impl Key ===

impl<'k> Key<'k> {
    /// The key of something that lives in `region`; other vindexes than
    /// [`Region`](crate::Vindex::Region) take no notice of it.
    #[must_use]
    pub const fn within(self, region: &'k RegionId) -> Self {
        Self {
            region: Some(region),
            ..self
        }
    }

    /// The key without its region.
    pub(crate) const fn anywhere(self) -> Self {
        Self {
            region: None,
            ..self
        }
    }

    pub(crate) const fn region(&self) -> Option<&'k RegionId> {
        self.region
    }

    pub(crate) const fn is_empty(&self) -> bool {
        matches!(self.name, Name::Text(text) if text.is_empty())
    }

    pub(crate) const fn is_longer_than(&self, bytes: usize) -> bool {
        matches!(self.name, Name::Text(text) if text.len() > bytes)
    }

    /// The id that was given as one.
    pub(crate) const fn id(&self) -> Option<Id> {
        match self.name {
            Name::Id(id) => Some(id),
            _ => None,
        }
    }

    /// The id, also if it was given as another kind of UUID or as text.
    pub(crate) fn read_id(&self) -> Result<Id, IdError> {
        match self.name {
            Name::Id(id) => Ok(id),
            Name::Uuid(uuid) => Id::from_uuid(uuid),
            Name::Integer(number) => with_decimal(number, str::parse),
            Name::Text(text) => text.parse(),
        }
    }

    /// Calls `read` with the key's text, which needs no allocation.
    pub(crate) fn with_text<T>(&self, read: impl FnOnce(&str) -> T) -> T {
        let uuid = match self.name {
            Name::Text(text) => return read(text),
            Name::Integer(number) => return with_decimal(number, read),
            Name::Id(id) => id.as_uuid(),
            Name::Uuid(uuid) => uuid,
        };
        let mut buffer = [0; Hyphenated::LENGTH];
        read(uuid.hyphenated().encode_lower(&mut buffer))
    }
}

impl OwnedKey {
    pub(crate) fn new(key: Key<'_>) -> Self {
        Self {
            text: key.with_text(str::to_owned),
            id: key.id(),
            region: key.region().cloned(),
        }
    }

    pub(crate) fn key(&self) -> Key<'_> {
        let key = match self.id {
            Some(id) => id.into(),
            None => Key::from(&self.text),
        };
        match &self.region {
            Some(region) => key.within(region),
            None => key,
        }
    }
}

fn with_decimal<T>(number: i64, read: impl FnOnce(&str) -> T) -> T {
    // A sign and 19 digits.
    let mut buffer = [0; 20];
    let mut rest = &mut buffer[..];
    write!(rest, "{number}").expect("an i64 has at most 20 characters");
    let unused = rest.len();
    let text = &buffer[..buffer.len() - unused];
    read(str::from_utf8(text).expect("digits are ASCII"))
}

impl<'k> From<Name<'k>> for Key<'k> {
    fn from(name: Name<'k>) -> Self {
        Self { name, region: None }
    }
}

impl From<Id> for Key<'_> {
    fn from(id: Id) -> Self {
        Name::Id(id).into()
    }
}

impl From<&Id> for Key<'_> {
    fn from(id: &Id) -> Self {
        Name::Id(*id).into()
    }
}

impl From<Uuid> for Key<'_> {
    fn from(uuid: Uuid) -> Self {
        Name::Uuid(uuid).into()
    }
}

impl From<i64> for Key<'_> {
    fn from(number: i64) -> Self {
        Name::Integer(number).into()
    }
}

impl From<i32> for Key<'_> {
    fn from(number: i32) -> Self {
        Name::Integer(number.into()).into()
    }
}

impl<'k> From<&'k str> for Key<'k> {
    fn from(text: &'k str) -> Self {
        Name::Text(text).into()
    }
}

impl<'k> From<&'k String> for Key<'k> {
    fn from(text: &'k String) -> Self {
        Name::Text(text).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_a_key_is_what_postgres_makes_of_it() {
        let text = |key: Key<'_>| key.with_text(str::to_owned);
        assert_eq!(text(i64::MIN.into()), "-9223372036854775808");
        assert_eq!(text(i64::MAX.into()), "9223372036854775807");
        assert_eq!(text(0.into()), "0");
        assert_eq!(text(" Ä ".into()), " Ä ");
        let uuid = Uuid::parse_str("0190163D-8694-739B-AEA5-966C26F8AD91").unwrap();
        assert_eq!(text(uuid.into()), "0190163d-8694-739b-aea5-966c26f8ad91");
        let id = Id::from_uuid(uuid).unwrap();
        assert_eq!(text(id.into()), "0190163d-8694-739b-aea5-966c26f8ad91");
    }
}
