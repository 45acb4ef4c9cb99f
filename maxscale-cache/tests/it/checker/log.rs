//! What happened in a process, and the judgement over all of it.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::time::Duration;

/// One thing that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) kind: Kind,
    pub(crate) key: u32,
    pub(crate) version: u32,
    /// A read's beginning, a change's end: microseconds since 1970. All
    /// processes are on one machine.
    pub(crate) at: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Read,
    /// The invalidation was confirmed.
    Changed,
    /// It holds in its own process only, so far.
    ChangedHere,
    /// A read by token was too old.
    Older,
    /// A task saw less than before.
    Backwards,
    /// A read found nothing.
    Failed,
}

const SIZE: usize = 17;

/// The events of one process.
#[derive(Debug, Default)]
pub(crate) struct Log(pub(crate) Vec<Event>);

/// What became of a run.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) reads: usize,
    pub(crate) changes: usize,
    /// Reads at most 100 ms after an invalidation of what they read.
    pub(crate) close: usize,
    pub(crate) older_here: usize,
    pub(crate) older_elsewhere: usize,
    pub(crate) older_by_token: usize,
    pub(crate) backwards: usize,
    pub(crate) failed: usize,
    /// What the store dropped for want of room.
    pub(crate) evicted: u64,
    /// The longest time after an invalidation elsewhere that the old value was read.
    pub(crate) worst: Duration,
}

/// A change of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Change {
    version: u32,
    /// When its invalidation returned.
    at: u64,
    /// The same if it was confirmed, else `MAX`.
    everywhere: u64,
    node: usize,
}

// === impl Event ===

impl Event {
    fn bytes(self) -> [u8; SIZE] {
        let mut bytes = [0; SIZE];
        bytes[0] = self.kind as u8;
        bytes[1..5].copy_from_slice(&self.key.to_le_bytes());
        bytes[5..9].copy_from_slice(&self.version.to_le_bytes());
        bytes[9..].copy_from_slice(&self.at.to_le_bytes());
        bytes
    }

    fn of(bytes: &[u8]) -> Self {
        let kinds = [
            Kind::Read,
            Kind::Changed,
            Kind::ChangedHere,
            Kind::Older,
            Kind::Backwards,
            Kind::Failed,
        ];
        Self {
            kind: kinds[usize::from(bytes[0])],
            key: u32::from_le_bytes(bytes[1..5].try_into().unwrap()),
            version: u32::from_le_bytes(bytes[5..9].try_into().unwrap()),
            at: u64::from_le_bytes(bytes[9..].try_into().unwrap()),
        }
    }
}

// === impl Log ===

impl Log {
    pub(crate) fn write(&self, file: &Path) {
        let bytes: Vec<u8> = self.0.iter().flat_map(|event| event.bytes()).collect();
        std::fs::write(file, bytes).unwrap();
    }

    pub(crate) fn read(file: &Path) -> Self {
        let bytes = std::fs::read(file).unwrap();
        Self(bytes.chunks_exact(SIZE).map(Event::of).collect())
    }
}

/// Holds every read against every change.
pub(crate) fn judge(logs: &[Log], bound: Duration) -> Report {
    let bound = u64::try_from(bound.as_micros()).unwrap();
    let mut changes: HashMap<u32, Vec<Change>> = HashMap::new();
    let mut report = Report::default();
    for (node, log) in logs.iter().enumerate() {
        for event in &log.0 {
            let everywhere = match event.kind {
                Kind::Changed => event.at,
                Kind::ChangedHere => u64::MAX,
                _ => continue,
            };
            report.changes += 1;
            changes.entry(event.key).or_default().push(Change {
                version: event.version,
                at: event.at,
                everywhere,
                node,
            });
        }
    }
    let timelines: HashMap<_, _> = changes
        .into_iter()
        .map(|(key, changes)| (key, Timeline::of(changes, logs.len())))
        .collect();
    for (node, log) in logs.iter().enumerate() {
        for event in &log.0 {
            match event.kind {
                Kind::Older => report.older_by_token += 1,
                Kind::Backwards => report.backwards += 1,
                Kind::Failed => report.failed += 1,
                Kind::Changed | Kind::ChangedHere => {}
                Kind::Read => {
                    report.reads += 1;
                    if let Some(timeline) = timelines.get(&event.key) {
                        report.judge_read(node, event, timeline, bound);
                    }
                }
            }
        }
    }
    report
}

/// For each version of a key, since when newer ones were known.
struct Timeline {
    versions: Vec<u32>,
    /// Since when one newer than the one before `versions[n]` was known everywhere.
    everywhere: Vec<u64>,
    /// And in each process.
    here: Vec<Vec<u64>>,
    /// All moments of invalidations, in order.
    moments: Vec<u64>,
}

impl Timeline {
    fn of(mut changes: Vec<Change>, nodes: usize) -> Self {
        changes.sort_unstable();
        let mut moments: Vec<_> = changes.iter().map(|it| it.at).collect();
        moments.sort_unstable();
        let in_node = |it: &Change, node| if it.node == node { it.at } else { u64::MAX };
        let here = (0..nodes).map(|node| earliest(&changes, |it| in_node(it, node)));
        Self {
            versions: changes.iter().map(|it| it.version).collect(),
            everywhere: earliest(&changes, |it| it.everywhere),
            here: here.collect(),
            moments,
        }
    }
}

/// For each change the earliest moment of it and all that follow.
fn earliest(changes: &[Change], moment: impl Fn(&Change) -> u64) -> Vec<u64> {
    let mut least = u64::MAX;
    let from_the_end = changes.iter().rev().map(|change| {
        least = least.min(moment(change));
        least
    });
    let mut all: Vec<_> = from_the_end.collect();
    all.reverse();
    all
}

// === impl Report ===

impl Report {
    pub(crate) fn violations(&self) -> usize {
        self.older_here + self.older_elsewhere + self.older_by_token + self.backwards
    }

    fn judge_read(&mut self, node: usize, read: &Event, timeline: &Timeline, bound: u64) {
        let before = timeline.moments.partition_point(|at| *at <= read.at);
        let close = before > 0 && read.at - timeline.moments[before - 1] <= 100_000;
        self.close += usize::from(close);
        let newer = timeline.versions.partition_point(|it| *it <= read.version);
        let Some(everywhere) = timeline.everywhere.get(newer) else {
            return;
        };
        if timeline.here[node][newer] < read.at {
            self.older_here += 1;
        }
        let late = read.at.saturating_sub(*everywhere);
        if late > bound {
            self.older_elsewhere += 1;
        }
        self.worst = self.worst.max(Duration::from_micros(late));
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            reads,
            changes,
            close,
            ..
        } = self;
        write!(
            f,
            "{reads} reads ({} % within 100 ms of a change), {changes} changes; older than in the \
             same process: {}, in another: {}, by token: {}, backwards: {}; failed: {}; evicted by the store: {}; worst: {:?}",
            100 * close / reads.max(&1),
            self.older_here,
            self.older_elsewhere,
            self.older_by_token,
            self.backwards,
            self.failed,
            self.evicted,
            self.worst
        )
    }
}

#[test]
fn judge_tells_each_kind_of_old_read() {
    let event = |kind, version, at| Event {
        kind,
        key: 1,
        version,
        at,
    };
    let here = vec![
        event(Kind::Changed, 1, 1_000),
        event(Kind::Read, 0, 1_000),
        event(Kind::Read, 0, 1_001),
        event(Kind::Read, 1, 1_001),
        event(Kind::ChangedHere, 2, 2_000),
        event(Kind::Read, 1, 2_001),
    ];
    let there = vec![
        event(Kind::Read, 0, 1_500),
        event(Kind::Read, 0, 1_501),
        event(Kind::Read, 1, 9_000),
    ];
    let report = judge(&[Log(here), Log(there)], Duration::from_micros(500));
    assert_eq!((report.reads, report.changes), (7, 2));
    assert_eq!(report.older_here, 2);
    assert_eq!(report.older_elsewhere, 1);
    assert_eq!(report.worst, Duration::from_micros(501));
}
