//! What is asked of a store in one step.

use std::sync::Arc;
use std::time::Duration;

use super::Rule;
use super::rule::Seen;

/// Policies of one principal, and requests to be decided by them in their order.
///
/// Each request is decided all or nothing: where one of its policies has no
/// room, none is charged.
#[derive(Clone, Debug)]
pub struct Call {
    /// Whose tokens they are: a user, an address. Keys of a principal lie together.
    pub principal: Arc<str>,
    /// Its policies, of different names.
    pub entries: Vec<Entry>,
    /// The requests.
    pub runs: Vec<Run>,
}

/// A policy of a [`Call`].
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its name, by which the principal's keys differ.
    pub policy: Arc<str>,
    /// What it admits now; what was stored under another rule goes on under this one.
    pub rule: Rule,
    /// Tokens that were taken before and not used, put back first.
    pub back: u32,
}

/// Equal requests, of which the first so many are admitted as there is room for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// How many. None only asks how things stand.
    pub count: u32,
    /// The tokens that each costs, by the place of the policy; 0 is not concerned.
    pub costs: Vec<u32>,
    /// Charges all of them, room or not: for what has happened already.
    pub force: bool,
}

/// What became of a [`Run`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    /// How many requests were admitted.
    pub count: u32,
    /// How things stand after it, by the place of the policy.
    pub statuses: Vec<Status>,
}

/// How things stand with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// How many more tokens could be taken now.
    pub remaining: u32,
    /// The time until a request of the same cost would be admitted, if no other
    /// comes; none if it never will be.
    pub retry_after: Option<Duration>,
    /// The time until everything is available again.
    pub reset: Duration,
}

// === impl Call ===

impl Call {
    /// Decides and charges; says of each key whether it has to be stored.
    pub(super) fn decide(&self, keys: &mut [Seen], now: i64) -> (Vec<Granted>, Vec<bool>) {
        let mut changed = vec![false; keys.len()];
        for (place, entry) in self.entries.iter().enumerate() {
            if entry.back > 0 {
                keys[place].give_back(now, entry.back.into());
                changed[place] = true;
            }
        }
        let granted = self.runs.iter().map(|run| {
            let count = run.fitting(keys, now);
            for (place, cost) in run.concerned(keys) {
                let key = &mut keys[place];
                if count > 0 {
                    key.add(now, u64::from(cost) * u64::from(count));
                    changed[place] = true;
                }
                // Else the wait that is told now would never come true.
                let denies = count < run.count && key.room(now) < u64::from(cost);
                changed[place] |= denies && key.pulled();
            }
            let cost_of = |place: usize| run.costs.get(place).copied().unwrap_or(0);
            let statuses = keys.iter().enumerate();
            Granted {
                count,
                statuses: statuses
                    .map(|(place, key)| key.status(now, cost_of(place)))
                    .collect(),
            }
        });
        (granted.collect(), changed)
    }
}

// === impl Run ===

impl Run {
    /// The places and costs of the policies that it concerns.
    fn concerned(&self, keys: &[Seen]) -> impl Iterator<Item = (usize, u32)> + use<> {
        let costs = self.costs.iter().copied().take(keys.len()).enumerate();
        costs
            .filter(|(_, cost)| *cost > 0)
            .collect::<Vec<_>>()
            .into_iter()
    }

    fn fitting(&self, keys: &[Seen], now: i64) -> u32 {
        if self.force {
            return self.count;
        }
        let room = self
            .concerned(keys)
            .map(|(place, cost)| keys[place].room(now) / u64::from(cost));
        let room = room.min().unwrap_or(u64::MAX);
        u32::try_from(room).map_or(self.count, |room| room.min(self.count))
    }
}

// === impl Status ===

impl Status {
    /// Whether a request of the same cost would be admitted now.
    pub(super) fn has_room(&self) -> bool {
        self.retry_after == Some(Duration::ZERO)
    }

    /// The same so much later, if nothing was taken.
    #[cfg(feature = "redis")]
    pub(super) fn after(&self, since: Duration) -> Self {
        Self {
            retry_after: self.retry_after.map(|wait| wait.saturating_sub(since)),
            reset: self.reset.saturating_sub(since),
            ..*self
        }
    }

    /// Waits that are over are none.
    pub(super) fn new(remaining: u64, wait: Option<i64>, reset: i64) -> Self {
        let span = |micros: i64| Duration::from_micros(u64::try_from(micros).unwrap_or(0));
        Self {
            remaining: u32::try_from(remaining).unwrap_or(u32::MAX),
            retry_after: wait.map(span),
            reset: span(reset),
        }
    }
}
