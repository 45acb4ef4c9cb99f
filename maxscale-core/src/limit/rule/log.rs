//! The moments of the last few requests, each counted exactly.

use std::time::Duration;

use super::{Ground, LONGEST, RuleError, micros};
use crate::limit::Status;
use crate::limit::state::State;

/// At most `limit` in *any* window, and as many as that: for small numbers, such
/// as attempts at a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Log {
    limit: u32,
    window: Duration,
    /// In microseconds.
    length: i64,
}

/// A key's state as it is now.
#[derive(Clone, Debug)]
pub(in crate::limit) struct Seen {
    log: Log,
    /// The oldest first.
    moments: Vec<i64>,
    /// Some were of a time to come.
    pub(super) pulled: bool,
}

// === impl Log ===

impl Log {
    /// The largest limit: every request takes a place.
    pub const MOST: u32 = 64;

    /// `limit` requests in any `window`.
    ///
    /// # Errors
    ///
    /// [`RuleError`] for none, for more than [`Log::MOST`], and for a window that
    /// no clock could keep.
    pub fn new(limit: u32, window: Duration) -> Result<Self, RuleError> {
        let length = micros(window);
        match limit {
            0 => Err(RuleError::Zero),
            1..=Self::MOST if length == 0 => Err(RuleError::TooFast),
            1..=Self::MOST if length > LONGEST => Err(RuleError::TooSlow),
            1..=Self::MOST => Ok(Self {
                limit,
                window,
                length,
            }),
            _ => Err(RuleError::LongLog),
        }
    }

    /// How many requests any window admits.
    pub const fn limit(&self) -> u32 {
        self.limit
    }

    /// The window's length.
    pub const fn window(&self) -> Duration {
        self.window
    }

    /// One of `parts` equal parts, of at least 1.
    pub(super) fn part(&self, parts: u32) -> Self {
        Self {
            limit: (self.limit / parts.max(1)).max(1),
            ..*self
        }
    }

    pub(super) const fn ground(&self) -> Ground {
        Ground::Log {
            length: self.length,
        }
    }

    /// As the script takes it.
    #[cfg(feature = "redis")]
    pub(super) const fn numbers(&self) -> [i64; 4] {
        [3, self.limit as i64, self.length, 0]
    }
}

// === impl Seen ===

impl Seen {
    pub(super) fn of(log: &Log, state: Option<&State>, now: i64) -> Self {
        let old = match state {
            Some(State::Log(old)) => old.as_slice(),
            _ => &[],
        };
        let there = old.iter().filter(|at| **at > now - log.length);
        Self {
            log: *log,
            moments: there.map(|at| (*at).min(now)).collect(),
            pulled: old.last().is_some_and(|last| *last > now),
        }
    }

    fn count(&self) -> u64 {
        self.moments.len() as u64
    }

    pub(super) fn room(&self) -> u64 {
        u64::from(self.log.limit).saturating_sub(self.count())
    }

    /// What it has no room for is noted up to a second limit.
    pub(super) fn add(&mut self, now: i64, tokens: u64) {
        let most = u64::from(2 * self.log.limit).saturating_sub(self.count());
        for _ in 0..tokens.min(most) {
            self.moments.push(now);
        }
    }

    /// The oldest first: what is left is counted for no less long than it must be.
    pub(super) fn give_back(&mut self, tokens: u64) {
        let back = usize::try_from(tokens.min(self.count())).unwrap_or(0);
        self.moments.drain(..back);
    }

    pub(super) fn status(&self, now: i64, cost: u32) -> Status {
        let needed = (self.count() + u64::from(cost)).saturating_sub(self.log.limit.into());
        let wait = match usize::try_from(needed) {
            _ if cost > self.log.limit => None,
            Ok(0) => Some(0),
            // No more are needed than there are, since the cost alone fits.
            Ok(needed) => self
                .moments
                .get(needed - 1)
                .map(|at| self.leaves(*at) - now),
            Err(_) => None,
        };
        let reset = self.moments.last().map_or(0, |at| self.leaves(*at) - now);
        Status::new(self.room(), wait, reset)
    }

    /// When a request of the moment `at` is counted no more.
    const fn leaves(&self, at: i64) -> i64 {
        at + self.log.length
    }

    pub(super) fn into_state(self) -> State {
        State::Log(self.moments)
    }
}
