//! Names of things: 128 bits, time-ordered, valid UUIDv7, with their shard inside.
//!
//! ```text
//!  48 bits          4   12 bits    2   17 bits         5 bits     40 bits
//!  milliseconds     7   counter    10  virtual shard   keyspace   random
//! ```
//!
//! The layout is fixed for ever by golden vectors. The router's answer is the
//! truth about where an id lives; the bits are the default. An id reveals its
//! time and shard: it is a name, not a secret.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use uuid::Uuid;

use crate::clock::Clock;
use crate::fact::VirtualShard;
use crate::meter::{self, Meter, Metric};

/// How far a generator's last id lies in the future, by keyspace.
///
/// It grows when the clock has stepped back, or when ids are drawn faster than
/// 4,096 per millisecond, and shrinks while the clock catches up.
pub const ID_AHEAD: Metric = Metric::new(
    "maxscale.id.ahead",
    "s",
    "How far the last id drawn lies ahead of the clock.",
);

const COUNTER_BITS: u32 = 12;
const SHARD_BITS: u32 = 17;
const KEYSPACE_BITS: u32 = 5;
const RANDOM_BITS: u32 = 40;
const MILLIS_MASK: u64 = (1 << 48) - 1;

/// A UUIDv7 that carries its virtual shard and keyspace.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(Uuid);

/// Tells apart the ids of up to 32 keyspaces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct KeyspaceTag(u8);

/// Text or bytes that are not an [`Id`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdError {
    /// The text is not a UUID.
    #[error("not a UUID")]
    NotUuid(#[source] uuid::Error),

    /// The UUID is of another version than 7.
    #[error("not a UUID of version 7")]
    NotVersion7,
}

/// Draws ids in rising order. Never sleeps and never locks.
///
/// When the clock steps back, or a millisecond's 4,096 ids are used up, it goes
/// on from its last millisecond; [`ID_AHEAD`] tells how far that has led.
pub struct IdGenerator {
    clock: Clock,
    keyspace: KeyspaceTag,
    random: Box<dyn Fn() -> u64 + Send + Sync>,
    last: Arc<AtomicU64>,
}

/// A millisecond and a counter within it, in one number that only grows: a
/// counter that is used up carries over into the next millisecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tick(u64);

// === impl KeyspaceTag ===

impl KeyspaceTag {
    /// The tag `tag`, if it fits 5 bits.
    pub const fn new(tag: u8) -> Option<Self> {
        if tag < 1 << KEYSPACE_BITS {
            Some(Self(tag))
        } else {
            None
        }
    }

    /// The tag's number, 0 to 31.
    pub const fn get(self) -> u8 {
        self.0
    }
}

// === impl Id ===

impl Id {
    /// Reads an id from a UUID.
    ///
    /// # Errors
    ///
    /// Returns [`IdError::NotVersion7`] for any other UUID.
    pub fn from_uuid(uuid: Uuid) -> Result<Self, IdError> {
        let bits = uuid.as_u128();
        if (bits >> 76) & 0xf == 7 && (bits >> 62) & 0b11 == 0b10 {
            Ok(Self(uuid))
        } else {
            Err(IdError::NotVersion7)
        }
    }

    /// The id as a UUID, as databases store it.
    pub const fn as_uuid(self) -> Uuid {
        self.0
    }

    /// The virtual shard in the id's bits.
    pub fn shard(self) -> VirtualShard {
        let bits = self.0.as_u128() >> (KEYSPACE_BITS + RANDOM_BITS);
        VirtualShard::new(low_bits(bits, SHARD_BITS))
    }

    /// The keyspace in the id's bits.
    pub fn keyspace(self) -> KeyspaceTag {
        let bits = low_bits(self.0.as_u128() >> RANDOM_BITS, KEYSPACE_BITS);
        KeyspaceTag(bits.to_le_bytes()[0])
    }

    /// Milliseconds since the epoch at which the id was drawn; later by as much
    /// as its generator ran [ahead](ID_AHEAD).
    pub fn millis(self) -> u64 {
        self.0.as_u64_pair().0 >> 16
    }

    fn pack(tick: Tick, shard: VirtualShard, keyspace: KeyspaceTag, random: u64) -> Self {
        let shard = u64::from(shard.get());
        assert!(
            shard < 1 << SHARD_BITS,
            "no keyspace has a virtual shard {shard}"
        );
        let high = ((tick.millis() & MILLIS_MASK) << 16) | (7 << COUNTER_BITS) | tick.counter();
        let low = (0b10 << 62)
            | (shard << (KEYSPACE_BITS + RANDOM_BITS))
            | (u64::from(keyspace.0) << RANDOM_BITS)
            | (random & ((1 << RANDOM_BITS) - 1));
        Self(Uuid::from_u64_pair(high, low))
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "masked to fewer than 32 bits"
)]
fn low_bits(bits: u128, count: u32) -> u32 {
    (bits & ((1 << count) - 1)) as u32
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Id({})", self.0)
    }
}

impl FromStr for Id {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        Self::from_uuid(Uuid::parse_str(text).map_err(IdError::NotUuid)?)
    }
}

impl From<Id> for Uuid {
    fn from(id: Id) -> Self {
        id.0
    }
}

// === impl IdGenerator ===

impl IdGenerator {
    /// A generator whose random bits come from the operating system.
    pub fn new(clock: Clock, keyspace: KeyspaceTag) -> Self {
        Self::with_random(clock, keyspace, || Uuid::new_v4().as_u64_pair().0)
    }

    /// A generator with random bits of the caller's; the low 40 of each draw are used.
    pub fn with_random(
        clock: Clock,
        keyspace: KeyspaceTag,
        random: impl Fn() -> u64 + Send + Sync + 'static,
    ) -> Self {
        Self {
            clock,
            keyspace,
            random: Box::new(random),
            last: Arc::default(),
        }
    }

    /// Reports [`ID_AHEAD`] to `meter`.
    ///
    /// Of several generators of one keyspace only the last registered is seen.
    #[must_use]
    pub fn measured(self, meter: &Meter) -> Self {
        let (clock, last) = (self.clock.clone(), Arc::downgrade(&self.last));
        let keyspace = self.keyspace.0.to_string();
        let labels = [("maxscale.keyspace", keyspace.as_str())];
        meter::gauge(meter, ID_AHEAD, &labels, move || {
            let last = Tick(last.upgrade()?.load(Ordering::Relaxed));
            let ahead = last.millis().saturating_sub(clock.now().as_millis());
            Some(Duration::from_millis(ahead).as_secs_f64())
        });
        self
    }

    /// Draws an id that lives on `shard`.
    ///
    /// # Panics
    ///
    /// Panics if `shard` is 131,072 or more: no keyspace has so many.
    pub fn draw(&self, shard: VirtualShard) -> Id {
        Id::pack(self.tick(), shard, self.keyspace, (self.random)())
    }

    /// Draws an id on one of `count` virtual shards, all alike.
    pub fn draw_anywhere(&self, count: u32) -> Id {
        let draw = (self.random)() >> 32;
        // Multiply and shift: within 2⁻¹⁵ of uniform for every count we allow.
        let shard = (draw * u64::from(count)) >> 32;
        self.draw(VirtualShard::new(low_bits(shard.into(), SHARD_BITS)))
    }

    fn tick(&self) -> Tick {
        let now = Tick::first_of(self.clock.now().as_millis());
        // The order of changes of one atomic is all that ids need.
        let update = self
            .last
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| {
                Some(Tick(last).next(now).0)
            });
        let last = update.expect("the change is never declined");
        Tick(last).next(now)
    }
}

impl fmt::Debug for IdGenerator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdGenerator")
            .field("keyspace", &self.keyspace)
            .finish_non_exhaustive()
    }
}

// === impl Tick ===

impl Tick {
    const fn first_of(millis: u64) -> Self {
        Self((millis & MILLIS_MASK) << COUNTER_BITS)
    }

    fn next(self, now: Self) -> Self {
        Self(now.0.max(self.0 + 1))
    }

    const fn millis(self) -> u64 {
        self.0 >> COUNTER_BITS
    }

    const fn counter(self) -> u64 {
        self.0 & ((1 << COUNTER_BITS) - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;

    /// Milliseconds, counter, shard, keyspace, random: the id. Fixed for ever.
    const GOLDEN: [(u64, u64, u32, u8, u64, &str); 4] = [
        (0, 0, 0, 0, 0, "00000000-0000-7000-8000-000000000000"),
        (
            MILLIS_MASK,
            0xfff,
            131_071,
            31,
            u64::MAX,
            "ffffffff-ffff-7fff-bfff-ffffffffffff",
        ),
        (
            0x0199_1234_5678,
            0xabc,
            0x1_5a5a,
            0x13,
            0x11_2233_4455,
            "01991234-5678-7abc-ab4b-531122334455",
        ),
        (
            1_700_000_000_000,
            1,
            1_023,
            1,
            1,
            "018bcfe5-6800-7001-807f-e10000000001",
        ),
    ];

    #[test]
    fn golden_vectors_hold_for_ever() {
        for (millis, counter, shard, keyspace, random, text) in GOLDEN {
            let tick = Tick(Tick::first_of(millis).0 + counter);
            let tag = KeyspaceTag::new(keyspace).unwrap();
            let id = Id::pack(tick, VirtualShard::new(shard), tag, random);
            assert_eq!(id.to_string(), text);
            let read: Id = text.parse().unwrap();
            let parts = (read.millis(), read.shard().get(), read.keyspace().get());
            assert_eq!(parts, (millis, shard, keyspace), "{text}");
        }
    }

    #[test]
    #[should_panic(expected = "no keyspace has a virtual shard 131072")]
    fn shard_that_no_keyspace_has_is_in_no_id() {
        let ids = IdGenerator::new(Clock::system(), KeyspaceTag::default());
        ids.draw(VirtualShard::new(131_072));
    }

    #[test]
    fn order_is_kept_when_the_clock_steps_back() {
        let (clock, time) = Clock::manual(Timestamp::from_micros(5_000_000));
        let ids = IdGenerator::new(clock, KeyspaceTag::default());
        let mut last = ids.draw(VirtualShard::new(1));
        for step in 0..20_000_u32 {
            if step == 10_000 {
                time.set(Timestamp::from_micros(1_000_000));
            }
            let id = ids.draw(VirtualShard::new(1023 - step % 1024));
            assert!(id > last, "{id} after {last}");
            last = id;
        }
    }

    #[test]
    fn draws_reach_every_shard_and_none_beyond() {
        let ids = IdGenerator::new(Clock::system(), KeyspaceTag::default());
        let mut seen = [false; 16];
        for _ in 0..2_000 {
            seen[ids.draw_anywhere(16).shard().get() as usize] = true;
        }
        assert_eq!(seen, [true; 16]);
    }

    #[test]
    fn other_uuids_are_refused() {
        assert!(matches!(
            "67e55044-10b1-426f-9247-bb680e5fe0c8".parse::<Id>(),
            Err(IdError::NotVersion7)
        ));
        assert!(matches!("x".parse::<Id>(), Err(IdError::NotUuid(_))));
    }
}
