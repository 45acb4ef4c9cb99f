//! The generic cell rate algorithm, in whole microseconds.
//!
//! A key's state is one number: the moment at which its whole burst will be
//! available again (the "theoretical arrival time"). Each request moves it on
//! by one interval; it may be at most one tolerance (interval · burst) ahead.

use std::time::Duration;

use super::{LONGEST, RuleError, micros};
use crate::limit::Status;
use crate::limit::state::State;

/// A rate, and a burst on top.
///
/// In *any* window of length `w` at most `burst + per · w / window` are
/// admitted. Time is counted in whole microseconds, rounded so that never more
/// are admitted than that; up to 10,000 per second fewer than 1 % are lost to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rate {
    per: u32,
    window: Duration,
    burst: u32,
    // Both in microseconds; their sum with any time of this century is an
    // integer that a double holds exactly, because Lua has no other numbers.
    interval: i64,
    tolerance: i64,
}

/// A key's state as it is now.
#[derive(Clone, Debug)]
pub(in crate::limit) struct Seen {
    rate: Rate,
    full: i64,
    /// It was charged for what it had no room for.
    debt: bool,
    /// It was further ahead than it may be.
    pub(super) pulled: bool,
}

// === impl Rate ===

impl Rate {
    /// `per` requests in each `window`, with a burst of a tenth of `per`.
    ///
    /// The burst is at least 1. So 100 per minute admits at most 110 in any
    /// minute.
    ///
    /// # Errors
    ///
    /// [`RuleError`] for none, and when no clock could keep the rate.
    pub fn new(per: u32, window: Duration) -> Result<Self, RuleError> {
        Self::build(per, window, (per / 10).max(1))
    }

    /// `per` requests in each second, with a burst of a tenth of `per`.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn per_second(per: u32) -> Result<Self, RuleError> {
        Self::new(per, Duration::from_secs(1))
    }

    /// `per` requests in each minute, with a burst of a tenth of `per`.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn per_minute(per: u32) -> Result<Self, RuleError> {
        Self::new(per, Duration::from_secs(60))
    }

    /// Sets how many may come at once.
    ///
    /// Default: a tenth of the rate's number, at least 1.
    ///
    /// # Errors
    ///
    /// [`RuleError::Zero`] for none, [`RuleError::TooSlow`] when the burst would
    /// take decades to come back.
    pub fn burst(self, burst: u32) -> Result<Self, RuleError> {
        Self::build(self.per, self.window, burst)
    }

    fn build(per: u32, window: Duration, burst: u32) -> Result<Self, RuleError> {
        if per == 0 || burst == 0 {
            return Err(RuleError::Zero);
        }
        let (window_micros, requests) = (micros(window), i64::from(per));
        if requests > window_micros {
            return Err(RuleError::TooFast);
        }
        // Rounded up: a shorter interval would admit more than was asked for.
        let interval = window_micros / requests + i64::from(window_micros % requests > 0);
        let tolerance = interval
            .checked_mul(i64::from(burst))
            .filter(|tolerance| *tolerance <= LONGEST)
            .ok_or(RuleError::TooSlow)?;
        Ok(Self {
            per,
            window,
            burst,
            interval,
            tolerance,
        })
    }

    /// How many requests each window admits.
    pub const fn per(&self) -> u32 {
        self.per
    }

    /// The window's length.
    pub const fn window(&self) -> Duration {
        self.window
    }

    /// How many may come at once.
    pub const fn burst_size(&self) -> u32 {
        self.burst
    }

    /// How many requests so much time admits.
    #[cfg(feature = "redis")]
    pub(in crate::limit) const fn in_time(&self, time: Duration) -> u128 {
        time.as_micros() / self.interval.unsigned_abs() as u128
    }

    /// How many tokens there are so many microseconds before all are there.
    #[cfg(feature = "redis")]
    pub(in crate::limit) fn left(&self, reset: u64) -> u32 {
        let there = self.tolerance.unsigned_abs().saturating_sub(reset);
        u32::try_from(there / self.interval.unsigned_abs()).unwrap_or(u32::MAX)
    }

    /// One of `parts` equal parts, with a burst of at least 1.
    pub(super) fn part(&self, parts: u32) -> Self {
        let burst = (self.burst / parts.max(1)).max(1);
        let interval = self.interval.saturating_mul(i64::from(parts.max(1)));
        let interval = interval.min(LONGEST);
        Self {
            burst,
            interval,
            tolerance: interval.saturating_mul(i64::from(burst)).min(LONGEST),
            ..*self
        }
    }

    /// How a key stands whose whole burst is there again after `reset` microseconds.
    #[cfg(feature = "redis")]
    pub(in crate::limit) fn standing(&self, reset: i64, cost: u32) -> Status {
        let seen = Seen {
            rate: *self,
            full: reset,
            debt: false,
            pulled: false,
        };
        seen.status(0, cost)
    }

    /// As the script takes it.
    #[cfg(feature = "redis")]
    pub(in crate::limit) const fn numbers(&self) -> [i64; 4] {
        [1, self.interval, self.tolerance, 0]
    }
}

// === impl Seen ===

impl Seen {
    /// A state further ahead than the rate allows (it was lowered, or the clock
    /// stepped back) is pulled in: nobody waits longer than the rate says.
    pub(super) fn of(rate: &Rate, state: Option<&State>, now: i64) -> Self {
        let (full, debt) = match state {
            Some(State::Rate { full, debt }) => (*full, *debt),
            _ => (now, false),
        };
        let debt = debt && full > now.saturating_add(rate.tolerance);
        let furthest = now.saturating_add(rate.tolerance * if debt { 2 } else { 1 });
        Self {
            rate: *rate,
            full: full.clamp(now, furthest),
            debt,
            pulled: full > furthest,
        }
    }

    pub(super) fn room(&self, now: i64) -> u64 {
        let ahead = self.full - now;
        u64::try_from((self.rate.tolerance - ahead) / self.rate.interval).unwrap_or(0)
    }

    /// What it has no room for makes a debt of up to one more burst.
    pub(super) fn add(&mut self, now: i64, tokens: u64) {
        let most = now.saturating_add(2 * self.rate.tolerance);
        self.full = self.moved(tokens, i64::saturating_add).min(most);
        self.debt = self.full > now.saturating_add(self.rate.tolerance);
    }

    pub(super) fn give_back(&mut self, now: i64, tokens: u64) {
        self.full = self.moved(tokens, i64::saturating_sub).max(now);
        self.debt &= self.full > now.saturating_add(self.rate.tolerance);
    }

    fn moved(&self, tokens: u64, by: fn(i64, i64) -> i64) -> i64 {
        let tokens = i64::try_from(tokens).unwrap_or(i64::MAX);
        by(self.full, self.rate.interval.saturating_mul(tokens))
    }

    pub(super) fn status(&self, now: i64, cost: u32) -> Status {
        let needed = self.rate.interval.saturating_mul(i64::from(cost));
        let wait = self.full.saturating_add(needed) - now.saturating_add(self.rate.tolerance);
        Status::new(
            self.room(now),
            (cost <= self.rate.burst).then_some(wait),
            self.full - now,
        )
    }

    pub(super) const fn into_state(self) -> State {
        State::Rate {
            full: self.full,
            debt: self.debt,
        }
    }
}
