//! What the checks say together, for whoever asks.

use std::sync::Arc;

use super::{Importance, Place, Status};
use crate::clock::Timestamp;

/// The worst of some checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Overall {
    /// Every check that matters is up.
    Ok,
    /// A degrading check is down or has no result yet.
    Degraded,
    /// A critical check is down or has no result yet.
    Down,
}

/// All results at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Report {
    /// The worst of all checks.
    pub overall: Overall,
    /// The program's version.
    pub version: &'static str,
    /// Whether the process finishes its requests and takes no new ones.
    pub draining: bool,
    /// The checks, by name.
    pub checks: Vec<CheckReport>,
}

/// The last result of one check.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CheckReport {
    /// Where it stands in the tree.
    pub place: Place,
    /// The check's name.
    pub name: Arc<str>,
    /// What it means when it is down.
    pub importance: Importance,
    /// Whether it is down.
    pub status: Status,
    /// Since when the status holds.
    pub since: Timestamp,
    /// When the last run ended; `None` before the first.
    pub checked: Option<Timestamp>,
    /// Why the last run failed: the error's own text, without its causes.
    pub error: Option<String>,
}

/// The checks of one place.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Branch<'a> {
    /// The place.
    pub place: Place,
    /// The worst of its checks.
    pub overall: Overall,
    /// Its checks, by name.
    pub checks: Vec<&'a CheckReport>,
}

/// The worst of `checks`; well if there are none.
pub(super) fn worst<'a>(checks: impl IntoIterator<Item = &'a CheckReport>) -> Overall {
    let each = checks.into_iter().map(CheckReport::overall);
    each.max().unwrap_or(Overall::Ok)
}

// === impl Report ===

impl Report {
    /// The places that have checks, in the tree's order.
    pub fn branches(&self) -> Vec<Branch<'_>> {
        let mut places: Vec<_> = self.checks.iter().map(|check| check.place).collect();
        places.sort_unstable();
        places.dedup();
        let branch = |place| {
            let checks = self.checks.iter().filter(|check| check.place == place);
            let checks: Vec<_> = checks.collect();
            Branch {
                place,
                overall: worst(checks.iter().copied()),
                checks,
            }
        };
        places.into_iter().map(branch).collect()
    }
}

// === impl CheckReport ===

impl CheckReport {
    fn overall(&self) -> Overall {
        match (self.status, self.importance) {
            (Status::Up, _) | (_, Importance::Info) => Overall::Ok,
            (_, Importance::Degrading) => Overall::Degraded,
            (_, Importance::Critical) => Overall::Down,
        }
    }
}
