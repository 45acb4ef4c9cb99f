//! Where a check stands in the tree.

use std::cmp::Ordering;
use std::fmt;

/// A part of the service that has checks. Its name never changes: dashboards
/// and alerts find it by that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place(&'static str);

/// The tree's order; a place of the user's own comes after these.
const ORDER: [Place; 6] = [
    Place::APPLICATION,
    Place::NODES,
    Place::REDIS,
    Place::OBJECT_STORE,
    Place::QUEUE,
    Place::BUS,
];

// === impl Place ===

impl Place {
    /// The process itself: the root of the tree.
    pub const APPLICATION: Self = Self("application");
    /// The databases.
    pub const NODES: Self = Self("nodes");
    /// Redis, in its roles.
    pub const REDIS: Self = Self("redis");
    /// Where uploaded files are.
    pub const OBJECT_STORE: Self = Self("object_store");
    /// Jobs.
    pub const QUEUE: Self = Self("queue");
    /// Events.
    pub const BUS: Self = Self("bus");

    /// A place of the user's own, shown after the known ones.
    pub const fn new(name: &'static str) -> Self {
        Self(name)
    }

    /// The name, as the tree shows it.
    pub const fn name(self) -> &'static str {
        self.0
    }

    fn rank(self) -> usize {
        let known = ORDER.iter().position(|place| *place == self);
        known.unwrap_or(ORDER.len())
    }
}

impl Ord for Place {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.rank(), self.0).cmp(&(other.rank(), other.0))
    }
}

impl PartialOrd for Place {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}
