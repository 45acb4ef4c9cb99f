//! What is kept per node, and how two things that are known become one.

use std::time::Duration;

use maxscale_core::clock::Timestamp;

use crate::router::ReadPolicy;
use crate::sql::Watermark;

/// More nodes than anybody asks in a minute. With one more, all nodes count as
/// just written to.
pub(super) const MOST: usize = 8;
pub(super) const MARK_LEN: usize = 28;
/// The mark that stands for all nodes.
const ALL: u64 = 0;
/// The timeline of a mark without a position: there is nothing to wait for.
const UNKNOWN: u32 = 0;

/// The newest mark of each node.
#[derive(Debug, Default)]
pub(super) struct Marks {
    marks: Vec<Mark>,
    /// Something was written, or seen, since they were read from a text.
    pub(super) wrote: bool,
    pub(super) saw: bool,
    /// How often something without a position was noted.
    unknowns: u64,
}

/// What a replica of one node must have replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) node: u64,
    pub(super) timeline: u32,
    pub(super) position: u64,
    /// When it was noted, by our clock.
    pub(super) at: i64,
}

/// From where to read, and what was known when that was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) node: u64,
    pub(super) policy: ReadPolicy,
    unknowns: u64,
}

// === impl Marks ===

impl Marks {
    /// From where to read on `node`.
    pub(super) fn plan(&self, node: u64, now: Timestamp, lifetime: Duration) -> Plan {
        let known = |of: u64| {
            let mut marks = self.marks.iter();
            marks.find(|mark| mark.node == of && mark.is_fresh(now, lifetime))
        };
        let policy = match known(ALL).or_else(|| known(node)) {
            Some(mark) if mark.node == ALL || mark.timeline == UNKNOWN => ReadPolicy::Primary,
            Some(mark) => ReadPolicy::AtLeast(Watermark::new(mark.timeline, mark.position)),
            None => ReadPolicy::Replica { max_lag: lifetime },
        };
        Plan {
            node,
            policy,
            unknowns: self.unknowns,
        }
    }

    /// Takes note that something was written.
    pub(super) fn note_written(&mut self, mark: Mark, lifetime: Duration) {
        self.wrote |= self.put(mark, lifetime);
    }

    /// Takes note of how far what was read by `plan` had come.
    pub(super) fn note_seen(&mut self, plan: &Plan, mark: Mark, lifetime: Duration) {
        // Where something without a position was written, the primary was read
        // from, and it was further than that. Unless more was written meanwhile.
        if plan.policy == ReadPolicy::Primary && plan.unknowns == self.unknowns {
            let unknown = |old: &Mark| old.node == mark.node && old.timeline == UNKNOWN;
            self.marks.retain(|old| !unknown(old));
        }
        self.saw |= self.put(mark, lifetime);
    }

    /// Takes over what another text said.
    pub(super) fn put_all(&mut self, others: &Self, now: Timestamp, lifetime: Duration) {
        for mark in &others.marks {
            if mark.is_fresh(now, lifetime) {
                self.put(*mark, lifetime);
            }
        }
    }

    /// Whether `mark` says more than was known.
    fn put(&mut self, mut mark: Mark, lifetime: Duration) -> bool {
        if mark.timeline == UNKNOWN {
            self.unknowns += 1;
        }
        let now = Timestamp::from_micros(mark.at);
        self.marks.retain(|old| old.is_fresh(now, lifetime));
        if let Some(at) = self.marks.iter().position(|old| old.node == mark.node) {
            if self.marks[at].covers(&mark) {
                return false;
            }
            mark = mark.and(&self.marks.remove(at));
        }
        if self.marks.len() == MOST {
            self.marks.clear();
            mark.node = ALL;
        }
        self.marks.push(mark);
        true
    }

    /// As bytes, without those whose time is over.
    pub(super) fn to_bytes(&self, now: Timestamp, lifetime: Duration) -> Vec<u8> {
        let mut bytes = Vec::new();
        for mark in self.marks.iter().filter(|m| m.is_fresh(now, lifetime)) {
            mark.write(&mut bytes);
        }
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let marks = bytes.chunks(MARK_LEN).map(Mark::read).collect();
        Option::<Vec<Mark>>::map(marks, |marks| Self {
            marks,
            ..Self::default()
        })
    }
}

// === impl Mark ===

impl Mark {
    /// A mark at `position`; without one, that something is there which has none.
    pub(super) fn new(node: u64, position: Option<Watermark>, now: Timestamp) -> Self {
        let position = position.unwrap_or(Watermark::new(UNKNOWN, 0));
        Self {
            node,
            timeline: position.timeline(),
            position: position.position(),
            at: now.as_micros(),
        }
    }

    /// Whether `other` adds nothing: it was there when this was noted, so it is
    /// over no later.
    const fn covers(&self, other: &Self) -> bool {
        self.timeline != UNKNOWN
            && self.timeline == other.timeline
            && self.position >= other.position
    }

    /// Both in one: what was done at once may be told in any order.
    fn and(self, other: &Self) -> Self {
        let (timeline, position) = if self.timeline == UNKNOWN || other.timeline == UNKNOWN {
            (UNKNOWN, 0)
        } else {
            (self.timeline, self.position).max((other.timeline, other.position))
        };
        Self {
            node: self.node,
            timeline,
            position,
            at: self.at.max(other.at),
        }
    }

    fn is_fresh(&self, now: Timestamp, lifetime: Duration) -> bool {
        let age = now.as_micros().saturating_sub(self.at);
        // From another process, whose clock may be ahead, it is new.
        u128::try_from(age).map_or(true, |age| age < lifetime.as_micros())
    }

    fn write(&self, bytes: &mut Vec<u8>) {
        bytes.extend(self.node.to_be_bytes());
        bytes.extend(self.timeline.to_be_bytes());
        bytes.extend(self.position.to_be_bytes());
        bytes.extend(self.at.to_be_bytes());
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
