//! Which of several Redis has the copy of a user's sessions.
//!
//! It does no I/O.

use std::fmt;
use std::num::NonZeroU16;
use std::str::FromStr;
use std::sync::Arc;

use maxscale_core::id::Id;

/// Assigns each of 1,024 slots to a Redis, by its number; a user's id is hashed to a
/// slot. Cheap to clone.
///
/// A slot also knows since which version it lies where it lies. What a server still
/// has of a time when it had the slot before is no copy any more.
///
/// As text, which [`FromStr`] reads, a map is its version and runs of slots
/// (`2;0@1x512,1@2x512`: 512 slots on server 0 since version 1, and so on). All
/// processes must have the same.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionMap {
    version: u32,
    places: Arc<[Place]>,
}

/// Where a slot lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) server: u16,
    /// The version that put it there.
    pub(crate) since: u32,
}

/// Where copies are read, and where else they are dropped.
///
/// What lies on no server is read from the rows, so a change of the map moves
/// nothing. But a process that still reads by the old map must hear of changes. So
/// each of these steps reaches all processes before the next one begins:
///
/// 1. [`announce`](Self::announce): read by the old map, drop by both
/// 2. [`switch`](Self::switch): read by the new map, drop by both
/// 3. [`settle`](Self::settle): the old map is forgotten
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRoute {
    read: SessionMap,
    also: Option<SessionMap>,
}

/// A map of sessions cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SessionMapError {
    /// It does not have as many slots as there are.
    #[error("a map of sessions has {} slots, not {found}", SessionMap::SLOTS)]
    Slots {
        /// How many it has.
        found: usize,
    },

    /// The text is none of a map.
    #[error("a map of sessions looks like 1;0@1x1024")]
    Text,

    /// It names a server that there is not.
    #[error("a map of sessions names server {named}, and there are {servers}")]
    Server {
        /// The highest number in it.
        named: u16,
        /// How many there are; they are numbered from 0 on.
        servers: usize,
    },
}

// === impl SessionMap ===

impl SessionMap {
    /// How many slots there are.
    pub const SLOTS: usize = 1_024;

    /// The first map of so many servers: each has as many slots as any other, or one more.
    pub fn even(servers: NonZeroU16) -> Self {
        let of = |slot: usize| {
            let server = slot * usize::from(servers.get()) / Self::SLOTS;
            u16::try_from(server).unwrap_or_default()
        };
        let places = (0..Self::SLOTS).map(|slot| Place {
            server: of(slot),
            since: 1,
        });
        Self {
            version: 1,
            places: places.collect(),
        }
    }

    /// The map that follows this one, with slot after slot on these servers.
    ///
    /// # Errors
    ///
    /// Returns [`SessionMapError::Slots`] unless there is a server for each slot.
    pub fn next(&self, servers: &[u16]) -> Result<Self, SessionMapError> {
        let version = self.version + 1;
        let places = self.places.iter().zip(servers).map(|(place, server)| {
            let since = match place.server == *server {
                true => place.since,
                false => version,
            };
            Place {
                server: *server,
                since,
            }
        });
        match servers.len() {
            Self::SLOTS => Ok(Self {
                version,
                places: places.collect(),
            }),
            found => Err(SessionMapError::Slots { found }),
        }
    }

    /// Counts the changes of the map, from 1 on.
    pub const fn version(&self) -> u32 {
        self.version
    }

    /// The user's slot: the high bits of the id's lower half, multiplied by the
    /// golden ratio (Fibonacci hashing, Knuth 6.4). Fixed for ever.
    pub fn slot_of(user: Id) -> usize {
        const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
        let hash = user.as_uuid().as_u64_pair().1.wrapping_mul(GOLDEN);
        usize::try_from(hash >> 54).unwrap_or_default()
    }

    /// The number of the server that has the user's copy.
    pub fn server_of(&self, user: Id) -> usize {
        usize::from(self.place_of(user).server)
    }

    pub(crate) fn place_of(&self, user: Id) -> Place {
        self.places[Self::slot_of(user)]
    }

    /// Checks that it names none but `servers` servers.
    pub(crate) fn fits(&self, servers: usize) -> Result<(), SessionMapError> {
        let highest = self.places.iter().map(|it| it.server).max();
        match highest.unwrap_or_default() {
            named if usize::from(named) < servers => Ok(()),
            named => Err(SessionMapError::Server { named, servers }),
        }
    }
}

impl fmt::Display for SessionMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.version)?;
        let runs = self.places.chunk_by(|one, next| one == next);
        for (nth, run) in runs.enumerate() {
            let between = if nth == 0 { ';' } else { ',' };
            let Place { server, since } = run[0];
            write!(f, "{between}{server}@{since}x{}", run.len())?;
        }
        Ok(())
    }
}

impl fmt::Debug for SessionMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionMap({self})")
    }
}

impl FromStr for SessionMap {
    type Err = SessionMapError;

    fn from_str(text: &str) -> Result<Self, SessionMapError> {
        let (version, runs) = text.split_once(';').ok_or(SessionMapError::Text)?;
        let mut places = Vec::with_capacity(Self::SLOTS);
        for run in runs.split(',') {
            let (place, slots) = parse_run(run).ok_or(SessionMapError::Text)?;
            let found = places.len() + slots;
            if found > Self::SLOTS {
                return Err(SessionMapError::Slots { found });
            }
            places.resize(found, place);
        }
        match places.len() {
            Self::SLOTS => Ok(Self {
                version: version.parse().map_err(|_| SessionMapError::Text)?,
                places: places.into(),
            }),
            found => Err(SessionMapError::Slots { found }),
        }
    }
}

fn parse_run(run: &str) -> Option<(Place, usize)> {
    let (place, slots) = run.split_once('x')?;
    let (server, since) = place.split_once('@')?;
    let place = Place {
        server: server.parse().ok()?,
        since: since.parse().ok()?,
    };
    let slots: u16 = slots.parse().ok()?;
    Some((place, slots.into()))
}

// === impl SessionRoute ===

impl SessionRoute {
    /// By one map.
    pub const fn settled(map: SessionMap) -> Self {
        Self {
            read: map,
            also: None,
        }
    }

    /// The first step to `next`: what changes is dropped by both maps.
    #[must_use]
    pub fn announce(&self, next: SessionMap) -> Self {
        Self {
            read: self.read.clone(),
            also: Some(next),
        }
    }

    /// The second step, from the first: it is read by the other map. It is also the
    /// step back, as long as none was [settled](Self::settle).
    #[must_use]
    pub fn switch(&self) -> Self {
        match &self.also {
            Some(next) => Self {
                read: next.clone(),
                also: Some(self.read.clone()),
            },
            None => self.clone(),
        }
    }

    /// The last step: the map that is not read is forgotten.
    #[must_use]
    pub fn settle(&self) -> Self {
        Self::settled(self.read.clone())
    }

    /// The map that is read by.
    pub const fn map(&self) -> &SessionMap {
        &self.read
    }

    pub(crate) fn place_of(&self, user: Id) -> Place {
        self.read.place_of(user)
    }

    /// All places at which the user's copy is dropped.
    pub(crate) fn places_of(&self, user: Id) -> impl Iterator<Item = Place> {
        let read = self.read.place_of(user);
        let also = self.also.as_ref().map(|it| it.place_of(user));
        std::iter::once(read).chain(also.filter(|it| it.server != read.server))
    }

    pub(crate) fn fits(&self, servers: usize) -> Result<(), SessionMapError> {
        self.read.fits(servers)?;
        self.also.as_ref().map_or(Ok(()), |it| it.fits(servers))
    }
}

#[cfg(test)]
mod tests {
    use maxscale_core::clock::Clock;
    use maxscale_core::fact::VirtualShard;
    use maxscale_core::id::{IdGenerator, KeyspaceTag};
    use uuid::Uuid;

    use super::*;

    fn even(servers: u16) -> SessionMap {
        SessionMap::even(NonZeroU16::new(servers).unwrap())
    }

    #[test]
    fn slot_of_an_id_is_fixed_for_ever() {
        for (id, slot) in [
            ("01a3185c-5000-7000-8000-202385054cb0", 210),
            ("01a3185c-5000-7001-8000-40a222274028", 453),
            ("ffffffff-ffff-7fff-bfff-ffffffffffff", 135),
        ] {
            let id = Id::from_uuid(Uuid::parse_str(id).unwrap()).unwrap();
            assert_eq!(SessionMap::slot_of(id), slot, "{id}");
        }
    }

    #[test]
    fn users_are_spread_over_all_servers() {
        let ids = IdGenerator::new(Clock::system(), KeyspaceTag::default());
        let map = even(24);
        let mut users = [0_u32; 24];
        for _ in 0..24_000 {
            users[map.server_of(ids.draw(VirtualShard::new(3)))] += 1;
        }
        assert!(
            users.iter().all(|it| (700..1_400).contains(it)),
            "{users:?}"
        );
    }

    #[test]
    fn slot_that_comes_back_is_another_than_it_was() {
        let first = even(2);
        let mut servers: Vec<u16> = first.places.iter().map(|it| it.server).collect();
        assert_eq!((servers[0], servers[1_023]), (0, 1));
        servers[0] = 1;
        let second = first.next(&servers).unwrap();
        servers[0] = 0;
        let third = second.next(&servers).unwrap();
        let place = |server, since| Place { server, since };
        assert_eq!(first.places[0], place(0, 1));
        assert_eq!(second.places[0], place(1, 2));
        assert_eq!(third.places[0], place(0, 3));
        assert_eq!(third.places[1_023], place(1, 1), "it never moved");
        assert_eq!(third.version(), 3);
    }

    #[test]
    fn map_is_read_from_its_own_text_and_from_no_other() {
        let map = even(2).next(&[7; SessionMap::SLOTS]).unwrap();
        assert_eq!(map.to_string(), "2;7@2x1024");
        let text = even(24).to_string();
        assert_eq!(text.parse(), Ok(even(24)));
        assert!(text.starts_with("1;0@1x43,1@1x43,2@1x42,"), "{text}");
        for bad in [
            "",
            "1",
            "1;",
            "x;0@1x1024",
            "1;0@1",
            "1;0x1024",
            "1;-1@1x1024",
        ] {
            assert_eq!(
                bad.parse::<SessionMap>(),
                Err(SessionMapError::Text),
                "{bad}"
            );
        }
        for (found, bad) in [(1_023, "1;0@1x1023"), (1_025, "1;0@1x1024,1@1x1")] {
            let error = SessionMapError::Slots { found };
            assert_eq!(bad.parse::<SessionMap>(), Err(error));
        }
        assert!(even(2).next(&[0]).is_err());
        let named = SessionMapError::Server {
            named: 23,
            servers: 23,
        };
        assert_eq!(even(24).fits(23), Err(named));
        assert_eq!(even(24).fits(24), Ok(()));
    }

    #[test]
    fn each_step_drops_where_another_step_reads() {
        let (old, new) = (even(1), even(1).next(&[1; SessionMap::SLOTS]).unwrap());
        let ids = IdGenerator::new(Clock::system(), KeyspaceTag::default());
        let user = ids.draw(VirtualShard::new(0));
        let mut steps = vec![SessionRoute::settled(old)];
        steps.push(steps[0].announce(new.clone()));
        steps.push(steps[1].switch());
        steps.push(steps[2].settle());
        assert_eq!(steps[3], SessionRoute::settled(new));
        assert_eq!(steps[2].switch(), steps[1], "and back");
        for pair in steps.windows(2) {
            for (one, other) in [(&pair[0], &pair[1]), (&pair[1], &pair[0])] {
                let read = one.place_of(user).server;
                let mut dropped = other.places_of(user);
                assert!(dropped.any(|it| it.server == read), "{one:?} {other:?}");
            }
        }
    }
}
