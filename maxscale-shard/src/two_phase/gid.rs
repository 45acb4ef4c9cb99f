//! The name of a participant's prepared transaction. Pure.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use maxscale_core::fact::VirtualShard;
use maxscale_core::id::Id;
use uuid::Uuid;

/// What all names of ours begin with.
const OURS: &str = "ms";

/// The longest name of a coordinator, in bytes.
pub(super) const LONGEST: usize = 63;

/// `ms:<coordinator>:<shard of the decision>:<id>:<n>`: whoever finds it on a server knows
/// where to ask what became of it.
///
/// Of a closed set of characters, none of which ends a text of SQL; at most 119 of
/// them, and PostgreSQL takes 199 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Gid {
    pub(super) coordinator: Arc<str>,
    pub(super) shard: VirtualShard,
    pub(super) id: Id,
    pub(super) n: u32,
}

/// Whether a coordinator may be called so.
pub(super) fn is_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=LONGEST).contains(&name.len()) && name.bytes().all(plain)
}

// === impl Gid ===

impl fmt::Display for Gid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (shard, id) = (self.shard.as_i64(), self.id.as_uuid().simple());
        write!(f, "{OURS}:{}:{shard}:{id}:{}", self.coordinator, self.n)
    }
}

/// Not one of ours, or not as this version writes it.
impl FromStr for Gid {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.split(':');
        let mut part = || parts.next().ok_or(());
        let (ours, coordinator) = (part()?, part()?);
        let (shard, id, n) = (part()?, part()?, part()?);
        let gid = Self {
            coordinator: coordinator.into(),
            shard: VirtualShard::new(shard.parse().map_err(drop)?),
            id: Id::from_uuid(Uuid::try_parse(id).map_err(drop)?).map_err(drop)?,
            n: n.parse().map_err(drop)?,
        };
        // One text per name, since it is sent back as it was read.
        let same = ours == OURS && is_name(coordinator) && gid.to_string() == text;
        if same { Ok(gid) } else { Err(()) }
    }
}

#[cfg(test)]
mod tests {
    use maxscale_core::clock::Clock;
    use maxscale_core::id::{IdGenerator, KeyspaceTag};
    use proptest::prelude::*;

    use super::*;

    fn id(shard: u32) -> Id {
        let ids = IdGenerator::new(Clock::system(), KeyspaceTag::default());
        ids.draw(VirtualShard::new(shard))
    }

    proptest! {
        #[test]
        fn name_is_read_as_it_was_written(
            coordinator in "[a-z0-9-]{1,63}", shard in 0..131_072_u32, n in any::<u32>(),
        ) {
            let (coordinator, id) = (coordinator.into(), id(shard));
            let gid = Gid { coordinator, shard: VirtualShard::new(shard), id, n };
            let text = gid.to_string();
            prop_assert!(text.len() < 200);
            prop_assert_eq!(text.parse(), Ok(gid));
        }

        /// Also one that somebody else chose so that it ends the text around it.
        #[test]
        fn what_is_read_is_plain(text in "ms:[a-z';:0-9 -]{0,80}") {
            if text.parse::<Gid>().is_ok() {
                prop_assert!(text.bytes().all(|b| b == b':' || b == b'-' || b.is_ascii_alphanumeric()));
            }
        }
    }

    #[test]
    fn other_names_are_not_ours() {
        let ours = Gid {
            coordinator: "api".into(),
            shard: VirtualShard::new(7),
            id: id(7),
            n: 1,
        };
        let ours = ours.to_string();
        assert!(ours.parse::<Gid>().is_ok());
        for other in [
            ours.replacen("ms:", "mt:", 1),
            ours.replacen(":7:", ":07:", 1),
            ours.replacen("api", "a'pi", 1),
            ours.to_uppercase(),
            format!("{ours}:1"),
            format!("{ours} "),
            String::new(),
        ] {
            assert_eq!(other.parse::<Gid>(), Err(()), "{other}");
        }
    }
}
