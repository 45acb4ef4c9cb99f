//! What somebody has written and seen, so that the same somebody sees it again:
//! from a replica where one shows it, else from the primary.
//!
//! A [`Freshness`] holds the newest watermark per node. It travels with its user
//! as a MACed text, in a cookie, a header or gRPC metadata, which
//! [`FreshnessLayer`](crate::layer::FreshnessLayer) sees to, or in a message. It is
//! worth nothing after its time: from then on every replica that
//! [`ReadPolicy::Replica`] allows shows what was written.

mod marks;
mod shard;

use std::fmt;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use maxscale_core::clock::Clock;
use maxscale_core::keys::KeyRing;
use maxscale_core::refusal::{Class, Classify};
use sha2::{Digest, Sha256};

use crate::hex::{hex, unhex};
use crate::router::{ReadPolicy, Shard};
use crate::sql::Watermark;
use crate::topology::NodeId;
use marks::{MARK_LEN, MOST, Mark, Marks, Plan};

pub use shard::FreshShard;

/// What was written and seen by one user, per node. Cheap to clone; clones share it.
#[derive(Clone)]
pub struct Freshness {
    marks: Arc<Mutex<Marks>>,
    clock: Clock,
    lifetime: Duration,
}

/// A text that is no [`Freshness`], or was changed on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("what it says of earlier writes was not given out here")]
pub struct FreshnessError;

const PURPOSE: &str = "freshness";

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
        self.note_written(node_hash(shard.node().id()), watermark);
    }

    fn note_written(&self, node: u64, watermark: Option<Watermark>) {
        let mark = Mark::new(node, watermark, self.clock.now());
        self.lock().note_written(mark, self.lifetime);
    }

    /// Takes note of a read that was begun by `plan`, from a server that had come so
    /// far when it ended.
    fn saw(&self, plan: &Plan, position: Option<Watermark>) {
        let mark = Mark::new(plan.node, position, self.clock.now());
        self.lock().note_seen(plan, mark, self.lifetime);
    }

    /// From where this user reads on `shard`. Of what is read by it no note is taken:
    /// that is what [`on`](Self::on) is for.
    pub fn policy(&self, shard: &Shard) -> ReadPolicy {
        self.plan(shard).policy
    }

    fn plan(&self, shard: &Shard) -> Plan {
        self.plan_of(node_hash(shard.node().id()))
    }

    fn plan_of(&self, node: u64) -> Plan {
        self.lock().plan(node, self.clock.now(), self.lifetime)
    }

    /// Whether something was written, or seen of a later state, since it was read
    /// from a text: the text is to be given out again.
    pub fn has_changed(&self) -> bool {
        let marks = self.lock();
        marks.wrote || marks.saw
    }

    /// Whether something was written since.
    pub(crate) fn has_written(&self) -> bool {
        self.lock().wrote
    }

    /// The text that carries it: hexadecimal digits, at most [`Freshness::MAX_LEN`].
    pub fn to_text(&self, keys: &KeyRing) -> String {
        let message = self.lock().to_bytes(self.clock.now(), self.lifetime);
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
        let fresh = Self::new(clock);
        *fresh.lock() = Marks::from_bytes(message).ok_or(FreshnessError)?;
        Ok(fresh)
    }

    /// Takes over what `other`, another text of the same user, says.
    pub(crate) fn merge(&self, other: &Self) {
        let now = self.clock.now();
        let others = mem::take(&mut *other.lock());
        self.lock().put_all(&others, now, self.lifetime);
    }

    fn lock(&self) -> MutexGuard<'_, Marks> {
        // Nothing panics while it is held.
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Freshness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Freshness")
            .field("marks", &*self.lock())
            .finish_non_exhaustive()
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
    use maxscale_core::clock::Timestamp;
    use maxscale_core::keys::Secret;

    use super::*;

    fn keys() -> KeyRing {
        KeyRing::new(1, Secret::new([7; 32])).unwrap()
    }

    fn at_least(timeline: u32, position: u64) -> ReadPolicy {
        ReadPolicy::AtLeast(Watermark::new(timeline, position))
    }

    fn replica() -> ReadPolicy {
        ReadPolicy::Replica {
            max_lag: Freshness::DEFAULT_LIFETIME,
        }
    }

    fn fresh() -> (Freshness, maxscale_core::clock::ManualTime) {
        let (clock, time) = Clock::manual(Timestamp::from_micros(0));
        (Freshness::new(clock), time)
    }

    impl Freshness {
        fn wrote_at(&self, node: u64, timeline: u32, position: u64) {
            self.note_written(node, Some(Watermark::new(timeline, position)));
        }

        fn policy_of(&self, node: u64) -> ReadPolicy {
            self.plan_of(node).policy
        }
    }

    #[test]
    fn what_was_written_is_read_until_its_time_is_over() {
        let (fresh, time) = fresh();
        assert_eq!(fresh.policy_of(5), replica());
        fresh.wrote_at(5, 1, 100);
        fresh.wrote_at(5, 1, 90);
        assert_eq!(
            (fresh.policy_of(5), fresh.policy_of(6)),
            (at_least(1, 100), replica())
        );
        fresh.note_written(6, None);
        assert_eq!(fresh.policy_of(6), ReadPolicy::Primary);
        // After a promotion, whatever the positions are.
        fresh.wrote_at(5, 2, 50);
        fresh.wrote_at(5, 1, 300);
        assert_eq!(fresh.policy_of(5), at_least(2, 50));
        time.advance(Freshness::DEFAULT_LIFETIME);
        assert_eq!(
            (fresh.policy_of(5), fresh.policy_of(6)),
            (replica(), replica())
        );
    }

    #[test]
    fn what_was_seen_is_asked_for_again() {
        let (fresh, _time) = fresh();
        fresh.saw(&fresh.plan_of(5), Some(Watermark::new(1, 100)));
        assert!(fresh.has_changed() && !fresh.has_written());
        assert_eq!(fresh.policy_of(5), at_least(1, 100));
        // Two reads at once, of which the earlier one ends later.
        fresh.saw(&fresh.plan_of(5), Some(Watermark::new(1, 90)));
        assert_eq!(fresh.policy_of(5), at_least(1, 100));
    }

    #[test]
    fn state_that_was_seen_before_needs_no_new_text() {
        let (fresh, _time) = fresh();
        fresh.wrote_at(5, 1, 100);
        let text = fresh.to_text(&keys());
        let back = Freshness::from_text(&text, &keys(), fresh.clock.clone()).unwrap();
        back.saw(&back.plan_of(5), Some(Watermark::new(1, 100)));
        assert!(!back.has_changed());
        back.saw(&back.plan_of(5), Some(Watermark::new(1, 101)));
        assert!(back.has_changed());
    }

    #[test]
    fn write_without_a_position_is_known_once_the_primary_was_read_from() {
        let (fresh, _time) = fresh();
        fresh.note_written(5, None);
        // Whatever else is known does not say that a replica shows it.
        fresh.wrote_at(5, 1, 100);
        let before = fresh.plan_of(5);
        assert_eq!(before.policy, ReadPolicy::Primary);
        fresh.note_written(5, None);
        fresh.saw(&before, Some(Watermark::new(1, 200)));
        assert_eq!(fresh.policy_of(5), ReadPolicy::Primary, "begun too early");
        fresh.saw(&fresh.plan_of(5), Some(Watermark::new(1, 300)));
        assert_eq!(fresh.policy_of(5), at_least(1, 300));
    }

    #[test]
    fn read_that_began_before_a_write_says_nothing_of_it() {
        let (fresh, _time) = fresh();
        let before = fresh.plan_of(5);
        fresh.note_written(5, None);
        fresh.saw(&before, Some(Watermark::new(1, 200)));
        assert_eq!(fresh.policy_of(5), ReadPolicy::Primary);
    }

    #[test]
    fn who_asks_more_nodes_than_are_noted_reads_from_primaries() {
        let (fresh, time) = fresh();
        for node in 1..=MOST as u64 + 1 {
            fresh.wrote_at(node, 1, 100);
        }
        for node in [1, 9, 100] {
            assert_eq!(fresh.policy_of(node), ReadPolicy::Primary);
            fresh.wrote_at(node, 1, 100);
        }
        assert_eq!(fresh.policy_of(9), ReadPolicy::Primary);
        assert!(fresh.to_text(&keys()).len() <= Freshness::MAX_LEN);
        time.advance(Freshness::DEFAULT_LIFETIME);
        assert_eq!(fresh.policy_of(9), replica());
        // What is over takes no place.
        for node in 1..=MOST as u64 {
            fresh.wrote_at(node, 1, 100);
        }
        assert_eq!(fresh.policy_of(1), at_least(1, 100));
    }

    #[test]
    fn of_two_texts_the_later_counts_for_each_node() {
        let (first, _time) = fresh();
        let second = Freshness::new(first.clock.clone());
        first.wrote_at(5, 1, 100);
        first.wrote_at(6, 1, 300);
        second.wrote_at(5, 1, 200);
        second.wrote_at(6, 1, 200);
        first.merge(&second);
        assert_eq!(
            (first.policy_of(5), first.policy_of(6)),
            (at_least(1, 200), at_least(1, 300))
        );
    }

    #[test]
    fn text_reads_as_it_was_written_and_no_other_text_does() {
        let (fresh, time) = fresh();
        let clock = fresh.clock.clone();
        assert!(!fresh.has_changed());
        fresh.wrote_at(5, 3, 100);
        fresh.wrote_at(6, 1, u64::MAX);
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
