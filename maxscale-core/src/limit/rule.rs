//! What a key may do, as pure arithmetic: (state, now, rule) → (decision, state).
//!
//! `redis/take.lua` computes the same; a test holds both equal.

mod log;
mod quota;
mod rate;

use std::time::Duration;

pub use log::Log;
pub use quota::Quota;
pub use rate::Rate;

use super::Status;
use super::state::State;

/// What a key may do, by one of three algorithms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Rule {
    /// A rate with a burst: the default, and the cheapest.
    Rate(Rate),
    /// N in any window, by slices.
    Quota(Quota),
    /// N in any window, exactly, for small N.
    Log(Log),
}

/// A rule that no clock could keep, or that would admit nothing.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum RuleError {
    /// Nothing would ever be admitted.
    #[error("the rule admits nothing; its number and its burst are at least 1")]
    Zero,

    /// More than one request per microsecond, or a window shorter than its slices.
    #[error("the rule admits more than one request per microsecond; lower it or widen its window")]
    TooFast,

    /// The burst or the window would take decades.
    #[error("the rule's burst or window is longer than 50 years; lower it")]
    TooSlow,

    /// A window is cut into 1 to 60 slices.
    #[error("a quota's window is cut into 1 to 60 slices")]
    Slices,

    /// Every request of a log takes a place.
    #[error("a log counts at most 64 requests; use a quota")]
    LongLog,
}

/// A key's state as it is now: what has run out is gone, what cannot be is pulled in.
#[derive(Clone, Debug)]
pub(super) enum Seen {
    Rate(rate::Seen),
    Quota(quota::Seen),
    Log(log::Seen),
    Blocked { until: i64 },
}

/// What a rule keeps: see [`Rule::ground`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Ground {
    Rate,
    Quota { width: i64, slices: u8 },
    Log { length: i64 },
}

// === impl Ground ===

impl Ground {
    /// Of keys with a secret hash, keys of other grounds are others.
    pub(super) fn mix(self) -> u64 {
        // Odd numbers without a pattern.
        let spread = |number: i64, by: u64| number.unsigned_abs().wrapping_mul(by);
        match self {
            Self::Rate => 0,
            Self::Quota { width, slices } => {
                spread(width, 0x9e37_79b9_7f4a_7c15) ^ u64::from(slices).rotate_right(8)
            }
            Self::Log { length } => spread(length, 0xc2b2_ae3d_27d4_eb4f),
        }
    }
}

/// Fifty years in microseconds; far below 2⁵³, up to which doubles are exact.
const LONGEST: i64 = 50 * 366 * 24 * 3_600 * 1_000_000;

fn micros(window: Duration) -> i64 {
    i64::try_from(window.as_micros()).unwrap_or(i64::MAX)
}

// === impl Rule ===

impl Rule {
    /// The largest cost that is ever admitted.
    pub const fn most(&self) -> u32 {
        match self {
            Self::Rate(rate) => rate.burst_size(),
            Self::Quota(quota) => quota.limit(),
            Self::Log(log) => log.limit(),
        }
    }

    /// How many requests a window admits, as clients are told.
    pub const fn per(&self) -> u32 {
        match self {
            Self::Rate(rate) => rate.per(),
            Self::Quota(quota) => quota.limit(),
            Self::Log(log) => log.limit(),
        }
    }

    /// The window's length.
    pub const fn window(&self) -> Duration {
        match self {
            Self::Rate(rate) => rate.window(),
            Self::Quota(quota) => quota.window(),
            Self::Log(log) => log.window(),
        }
    }

    /// One of `parts` equal parts; none admits nothing at all.
    #[must_use]
    pub fn part(&self, parts: u32) -> Self {
        match self {
            Self::Rate(rate) => Self::Rate(rate.part(parts)),
            Self::Quota(quota) => Self::Quota(quota.part(parts)),
            Self::Log(log) => Self::Log(log.part(parts)),
        }
    }

    /// As the script takes it: its kind, and three numbers.
    #[cfg(feature = "redis")]
    pub(super) const fn numbers(&self) -> [i64; 4] {
        match self {
            Self::Rate(rate) => rate.numbers(),
            Self::Quota(quota) => quota.numbers(),
            Self::Log(log) => log.numbers(),
        }
    }

    /// Names what is kept: rules with different names keep apart what they count,
    /// since one could not read what the other wrote. All rates have the same.
    pub(super) fn ground(&self) -> Ground {
        match self {
            Self::Rate(_) => Ground::Rate,
            Self::Quota(quota) => quota.ground(),
            Self::Log(log) => log.ground(),
        }
    }

    pub(super) fn see(&self, state: Option<&State>, now: i64) -> Seen {
        if let Some(State::Blocked { until }) = state
            && *until > now
        {
            return Seen::Blocked { until: *until };
        }
        match self {
            Self::Rate(rate) => Seen::Rate(rate::Seen::of(rate, state, now)),
            Self::Quota(quota) => Seen::Quota(quota::Seen::of(quota, state, now)),
            Self::Log(log) => Seen::Log(log::Seen::of(log, state, now)),
        }
    }
}

impl From<Rate> for Rule {
    fn from(rate: Rate) -> Self {
        Self::Rate(rate)
    }
}

impl From<Quota> for Rule {
    fn from(quota: Quota) -> Self {
        Self::Quota(quota)
    }
}

impl From<Log> for Rule {
    fn from(log: Log) -> Self {
        Self::Log(log)
    }
}

// === impl Seen ===

impl Seen {
    /// How many tokens may be taken.
    pub(super) fn room(&self, now: i64) -> u64 {
        match self {
            Self::Rate(seen) => seen.room(now),
            Self::Quota(seen) => seen.room(),
            Self::Log(seen) => seen.room(),
            Self::Blocked { .. } => 0,
        }
    }

    pub(super) fn add(&mut self, now: i64, tokens: u64) {
        match self {
            Self::Rate(seen) => seen.add(now, tokens),
            Self::Quota(seen) => seen.add(tokens),
            Self::Log(seen) => seen.add(now, tokens),
            Self::Blocked { .. } => {}
        }
    }

    pub(super) fn give_back(&mut self, now: i64, tokens: u64) {
        match self {
            Self::Rate(seen) => seen.give_back(now, tokens),
            Self::Quota(seen) => seen.give_back(tokens),
            Self::Log(seen) => seen.give_back(tokens),
            Self::Blocked { .. } => {}
        }
    }

    pub(super) fn status(&self, now: i64, cost: u32) -> Status {
        match self {
            Self::Rate(seen) => seen.status(now, cost),
            Self::Quota(seen) => seen.status(now, cost),
            Self::Log(seen) => seen.status(now, cost),
            Self::Blocked { until } => Status::new(0, Some(until - now), until - now),
        }
    }

    /// Whether what was stored could not be, and would make the told wait untrue.
    pub(super) const fn pulled(&self) -> bool {
        match self {
            Self::Rate(seen) => seen.pulled,
            Self::Quota(seen) => seen.pulled,
            Self::Log(seen) => seen.pulled,
            Self::Blocked { .. } => false,
        }
    }

    pub(super) fn into_state(self) -> State {
        match self {
            Self::Rate(seen) => seen.into_state(),
            Self::Quota(seen) => seen.into_state(),
            Self::Log(seen) => seen.into_state(),
            Self::Blocked { until } => State::Blocked { until },
        }
    }
}

#[cfg(test)]
mod tests;
