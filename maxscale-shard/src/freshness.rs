//! What somebody has written, so that the same somebody reads it: from a replica
//! where one shows it, else from the primary.
//!
//! A [`Freshness`] holds the newest watermark per node. It travels with its user
//! as a MACed text, in a cookie, a header, gRPC metadata or a message, and is
//! worth nothing after its time: from then on every replica that
//! [`ReadPolicy::Replica`] allows shows what was written.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use maxscale_core::clock::{Clock, Timestamp};
use maxscale_core::keys::KeyRing;
use maxscale_core::refusal::{Class, Classify};
use sha2::{Digest, Sha256};

use crate::hex::{hex, unhex};
use crate::router::{ReadPolicy, Shard};
use crate::sql::Watermark;
use crate::topology::NodeId;

/// What was written by one user, per node. Cheap to clone; clones share it.
#[derive(Clone)]
pub struct Freshness {
    marks: Arc<Mutex<Marks>>,
    clock: Clock,
    lifetime: Duration,
}

#[derive(Debug, Default)]
struct Marks {
    /// The newest last.
    marks: Vec<Mark>,
    changed: bool,
}

/// The newest watermark of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    node: u64,
    timeline: u32,
    position: u64,
    /// When it was written, by our clock.
    at: i64,
}

/// A text that is no [`Freshness`], or was changed on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("what it says of earlier writes was not given out here")]
pub struct FreshnessError;

const PURPOSE: &str = "freshness";
/// More nodes than anybody writes to in a minute. The oldest is given up for the
/// next, and all nodes then count as just written to.
const MOST: usize = 8;
/// The mark that stands for all nodes.
const ALL: u64 = 0;
const MARK_LEN: usize = 28;

// === impl Freshness ===

impl Freshness {
    /// How long a write is remembered unless set otherwise.
    pub const DEFAULT_LIFETIME: Duration = Duration::from_secs(60);
    /// The longest text, in bytes.
    pub const MAX_LEN: usize = 2 * (1 + 32 + MOST * MARK_LEN);

    /// Nothing written yet.
    pub fn new(clock: Clock) -> Self {
        Self {
            marks: Arc::default(),
            clock,
            lifetime: Self::DEFAULT_LIFETIME,
        }
    }

    /// Sets how long a write is remembered, and with that how old a replica may
    /// be that others read from. Default: [`Freshness::DEFAULT_LIFETIME`].
    #[must_use]
    pub const fn lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// Takes note of a write on `shard`. Without a watermark, as of an engine that
    /// has none, the primary is read from for a while.
    pub fn wrote(&self, shard: &Shard, watermark: Option<Watermark>) {
        let mark = watermark.unwrap_or(Watermark::new(0, 0));
        self.note(node_hash(shard.node().id()), mark);
    }

    fn note(&self, node: u64, mark: Watermark) {
        let at = self.clock.now().as_micros();
        let mut marks = self.lock();
        marks.changed = true;
        marks.put(Mark {
            node,
            timeline: mark.timeline(),
            position: mark.position(),
            at,
        });
    }

    /// From where this user reads on `shard`.
    pub fn policy(&self, shard: &Shard) -> ReadPolicy {
        self.policy_of(node_hash(shard.node().id()))
    }

    fn policy_of(&self, node: u64) -> ReadPolicy {
        let now = self.clock.now();
        let marks = self.lock();
        let fresh = |mark: &&Mark| mark.is_fresh(now, self.lifetime);
        let mut found = (marks.marks.iter()).filter(|mark| mark.node == node || mark.node == ALL);
        match found.find(fresh) {
            // Of no history: there is nothing to wait for.
            Some(mark) if mark.node == ALL || mark.timeline == 0 => ReadPolicy::Primary,
            Some(mark) => ReadPolicy::AtLeast(Watermark::new(mark.timeline, mark.position)),
            None => ReadPolicy::Replica {
                max_lag: self.lifetime,
            },
        }
    }

    /// Whether something was written since it was read from a text.
    pub fn has_changed(&self) -> bool {
        self.lock().changed
    }

    /// The text that carries it: hexadecimal digits, at most [`Freshness::MAX_LEN`].
    pub fn to_text(&self, keys: &KeyRing) -> String {
        let now = self.clock.now();
        let mut message = Vec::new();
        for mark in &self.lock().marks {
            if mark.is_fresh(now, self.lifetime) {
                mark.write(&mut message);
            }
        }
        let (version, tag) = keys.sign(PURPOSE, &message);
        let mut whole = vec![version];
        whole.extend(tag);
        whole.extend(message);
        hex(&whole)
    }

    /// Reads what [`to_text`](Self::to_text) gave.
    ///
    /// # Errors
    ///
    /// Returns [`FreshnessError`] for any other text.
    pub fn from_text(text: &str, keys: &KeyRing, clock: Clock) -> Result<Self, FreshnessError> {
        let whole = (text.len() <= Self::MAX_LEN).then(|| unhex(text)).flatten();
        let whole = whole.ok_or(FreshnessError)?;
        let (version, rest) = whole.split_first().ok_or(FreshnessError)?;
        let (tag, message) = rest.split_at_checked(32).ok_or(FreshnessError)?;
        if !keys.verify(*version, PURPOSE, message, tag) {
            return Err(FreshnessError);
        }
        let marks = message.chunks(MARK_LEN).map(Mark::read).collect();
        let marks = Option::<Vec<Mark>>::ok_or(marks, FreshnessError)?;
        let fresh = Self::new(clock);
        fresh.lock().marks = marks;
        Ok(fresh)
    }

    fn lock(&self) -> MutexGuard<'_, Marks> {
        // Nothing panics while it is held.
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Freshness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Freshness")
            .field("marks", &self.lock().marks)
            .finish_non_exhaustive()
    }
}

// === impl Marks ===

impl Marks {
    fn put(&mut self, mut mark: Mark) {
        if let Some(at) = self.marks.iter().position(|old| old.node == mark.node) {
            let old = self.marks.remove(at);
            // Two writes at once may be told in another order.
            if old.timeline == mark.timeline {
                mark.position = mark.position.max(old.position);
            }
        }
        if self.marks.len() == MOST {
            self.marks.clear();
            mark.node = ALL;
        }
        self.marks.push(mark);
    }
}

// === impl Mark ===

impl Mark {
    fn is_fresh(&self, now: Timestamp, lifetime: Duration) -> bool {
        let age = now.as_micros().saturating_sub(self.at);
        // From another process, whose clock may be ahead, it is new.
        u128::try_from(age).map_or(true, |age| age < lifetime.as_micros())
    }

    fn write(&self, message: &mut Vec<u8>) {
        message.extend(self.node.to_be_bytes());
        message.extend(self.timeline.to_be_bytes());
        message.extend(self.position.to_be_bytes());
        message.extend(self.at.to_be_bytes());
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (node, rest) = bytes.split_first_chunk()?;
        let (timeline, rest) = rest.split_first_chunk()?;
        let (position, rest) = rest.split_first_chunk()?;
        Some(Self {
            node: u64::from_be_bytes(*node),
            timeline: u32::from_be_bytes(*timeline),
            position: u64::from_be_bytes(*position),
            at: i64::from_be_bytes(rest.try_into().ok()?),
        })
    }
}

impl Classify for FreshnessError {
    fn class(&self) -> Class {
        Class::Invalid
    }
}

/// The name itself is nobody's business outside.
fn node_hash(node: &NodeId) -> u64 {
    let digest = Sha256::digest(node.as_str().as_bytes());
    let first = digest.first_chunk().copied().unwrap_or_default();
    u64::from_be_bytes(first).max(1)
}

#[cfg(test)]
mod tests {
    use maxscale_core::keys::Secret;

    use super::*;

    fn keys() -> KeyRing {
        KeyRing::new(1, Secret::new([7; 32])).unwrap()
    }

    fn at_least(timeline: u32, position: u64) -> ReadPolicy {
        ReadPolicy::AtLeast(Watermark::new(timeline, position))
    }

    #[test]
    fn what_was_written_is_read_until_its_time_is_over() {
        let (clock, time) = Clock::manual(Timestamp::from_micros(0));
        let fresh = Freshness::new(clock);
        let replica = ReadPolicy::Replica {
            max_lag: Freshness::DEFAULT_LIFETIME,
        };
        assert_eq!(fresh.policy_of(5), replica);
        fresh.note(5, Watermark::new(1, 100));
        fresh.note(5, Watermark::new(1, 90));
        assert_eq!(
            (fresh.policy_of(5), fresh.policy_of(6)),
            (at_least(1, 100), replica)
        );
        fresh.note(6, Watermark::new(0, 0));
        assert_eq!(fresh.policy_of(6), ReadPolicy::Primary);
        // After a promotion, whatever the positions are.
        fresh.note(5, Watermark::new(2, 50));
        assert_eq!(fresh.policy_of(5), at_least(2, 50));
        time.advance(Freshness::DEFAULT_LIFETIME);
        assert_eq!((fresh.policy_of(5), fresh.policy_of(6)), (replica, replica));
    }

    #[test]
    fn who_writes_to_more_nodes_than_are_noted_reads_from_primaries() {
        let (clock, _time) = Clock::manual(Timestamp::from_micros(0));
        let fresh = Freshness::new(clock);
        for node in 1..=MOST as u64 + 1 {
            fresh.note(node, Watermark::new(1, 100));
        }
        for node in [1, 9, 100] {
            assert_eq!(fresh.policy_of(node), ReadPolicy::Primary);
        }
        assert!(fresh.to_text(&keys()).len() <= Freshness::MAX_LEN);
    }

    #[test]
    fn text_reads_as_it_was_written_and_no_other_text_does() {
        let (clock, time) = Clock::manual(Timestamp::from_micros(0));
        let fresh = Freshness::new(clock.clone());
        assert!(!fresh.has_changed());
        fresh.note(5, Watermark::new(3, 100));
        fresh.note(6, Watermark::new(1, u64::MAX));
        assert!(fresh.has_changed());
        let text = fresh.to_text(&keys());
        let back = Freshness::from_text(&text, &keys(), clock.clone()).unwrap();
        assert!(!back.has_changed());
        assert_eq!(
            (back.policy_of(5), back.policy_of(6)),
            (at_least(3, 100), at_least(1, u64::MAX))
        );
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] = if bytes[at] == b'0' { b'1' } else { b'0' };
            let changed = String::from_utf8(bytes).unwrap();
            assert!(Freshness::from_text(&changed, &keys(), clock.clone()).is_err());
            assert!(Freshness::from_text(&text[..at], &keys(), clock.clone()).is_err());
        }
        let other = KeyRing::new(1, Secret::new([8; 32])).unwrap();
        for (text, keys) in [
            (&*text, other),
            ("zz", keys()),
            (&"0".repeat(10_000), keys()),
        ] {
            assert!(Freshness::from_text(text, &keys, clock.clone()).is_err());
        }
        // What is over is left out.
        time.advance(Freshness::DEFAULT_LIFETIME);
        assert!(fresh.to_text(&keys()).len() < text.len());
    }
}
