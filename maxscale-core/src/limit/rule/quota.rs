//! A sliding window of whole slices, the oldest of which is counted in full.

use std::time::Duration;

use super::{Ground, LONGEST, RuleError, micros};
use crate::limit::Status;
use crate::limit::state::State;

/// "N per window", meant literally: at most `limit` in *any* window.
///
/// The window is cut into slices. What was admitted in the slice that the window
/// has half left is counted in full, so up to a slice's share fewer are admitted
/// than could be. For what is dear: exports, messages that cost money.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Quota {
    limit: u32,
    window: Duration,
    slices: u8,
    /// Of one slice, in microseconds, rounded up.
    width: i64,
}

/// A key's state as it is now.
#[derive(Clone, Debug)]
pub(in crate::limit) struct Seen {
    quota: Quota,
    /// The number of the present slice.
    slice: i64,
    /// What was admitted in it and in those before, the newest first.
    counts: Vec<u32>,
    /// It was of a time to come.
    pub(super) pulled: bool,
}

// === impl Quota ===

impl Quota {
    /// How many slices a window has, when nothing else is set.
    pub const DEFAULT_SLICES: u8 = 10;

    /// `limit` requests in any `window`, which is cut into
    /// [`Quota::DEFAULT_SLICES`].
    ///
    /// # Errors
    ///
    /// [`RuleError`] for none, and for a window that no clock could keep.
    pub fn new(limit: u32, window: Duration) -> Result<Self, RuleError> {
        Self::build(limit, window, Self::DEFAULT_SLICES)
    }

    /// Sets how many slices a window is cut into: more admit more evenly, and
    /// take more room.
    ///
    /// # Errors
    ///
    /// [`RuleError::Slices`] for none, and for more than 60.
    pub fn slices(self, slices: u8) -> Result<Self, RuleError> {
        Self::build(self.limit, self.window, slices)
    }

    fn build(limit: u32, window: Duration, slices: u8) -> Result<Self, RuleError> {
        if limit == 0 {
            return Err(RuleError::Zero);
        }
        if !(1..=60).contains(&slices) {
            return Err(RuleError::Slices);
        }
        let (whole, parts) = (micros(window), i64::from(slices));
        if whole < parts {
            return Err(RuleError::TooFast);
        }
        if whole > LONGEST {
            return Err(RuleError::TooSlow);
        }
        Ok(Self {
            limit,
            window,
            slices,
            // Rounded up: together they are no shorter than the window.
            width: whole / parts + i64::from(whole % parts > 0),
        })
    }

    /// How many requests any window admits.
    pub const fn limit(&self) -> u32 {
        self.limit
    }

    /// The window's length.
    pub const fn window(&self) -> Duration {
        self.window
    }

    /// How many slices the window is cut into.
    #[cfg(feature = "redis")]
    pub(in crate::limit) const fn slice_count(&self) -> u8 {
        self.slices
    }

    /// One of `parts` equal parts, of at least 1.
    pub(super) fn part(&self, parts: u32) -> Self {
        Self {
            limit: (self.limit / parts.max(1)).max(1),
            ..*self
        }
    }

    pub(super) const fn ground(&self) -> Ground {
        Ground::Quota {
            width: self.width,
            slices: self.slices,
        }
    }

    /// As the script takes it.
    #[cfg(feature = "redis")]
    pub(in crate::limit) const fn numbers(&self) -> [i64; 4] {
        [2, self.limit as i64, self.width, self.slices as i64]
    }
}

// === impl Seen ===

impl Seen {
    pub(super) fn of(quota: &Quota, state: Option<&State>, now: i64) -> Self {
        let slice = now.div_euclid(quota.width);
        let length = usize::from(quota.slices) + 1;
        let mut counts = vec![0; length];
        let mut pulled = false;
        if let Some(State::Quota {
            slice: last,
            counts: old,
        }) = state
        {
            // After a step back of the clock its newest slice is of a time to come: it
            // counts as the present one, or it would not leave in time.
            pulled = *last > slice;
            let gone = usize::try_from(slice - (*last).min(slice)).unwrap_or(length);
            let (there, from) = (counts.iter_mut().skip(gone), old.iter());
            for (count, old) in there.zip(from) {
                *count = *old;
            }
        }
        Self {
            quota: *quota,
            slice,
            counts,
            pulled,
        }
    }

    fn sum(&self) -> u64 {
        self.counts.iter().copied().map(u64::from).sum()
    }

    pub(super) fn room(&self) -> u64 {
        u64::from(self.quota.limit).saturating_sub(self.sum())
    }

    pub(super) fn add(&mut self, tokens: u64) {
        let tokens = u32::try_from(tokens).unwrap_or(u32::MAX);
        self.counts[0] = self.counts[0].saturating_add(tokens);
    }

    /// The oldest first: what is left is counted for no less long than it must be.
    pub(super) fn give_back(&mut self, mut tokens: u64) {
        for count in self.counts.iter_mut().rev() {
            let back = u32::try_from(tokens.min(u64::from(*count))).unwrap_or(u32::MAX);
            *count -= back;
            tokens -= u64::from(back);
        }
    }

    pub(super) fn status(&self, now: i64, cost: u32) -> Status {
        let wait = (cost <= self.quota.limit).then(|| self.wait(now, cost));
        let newest = self.counts.iter().position(|count| *count > 0);
        let reset = newest.map_or(0, |place| self.leaves(place) - now);
        Status::new(self.room(), wait, reset)
    }

    /// Until so many slices have left that there is room for `cost`.
    fn wait(&self, now: i64, cost: u32) -> i64 {
        let mut needed = (self.sum() + u64::from(cost)).saturating_sub(self.quota.limit.into());
        if needed == 0 {
            return 0;
        }
        for (place, count) in self.counts.iter().enumerate().rev() {
            needed = needed.saturating_sub((*count).into());
            if needed == 0 {
                return self.leaves(place) - now;
            }
        }
        0
    }

    /// When the slice in this place is counted no more.
    fn leaves(&self, place: usize) -> i64 {
        let left = self.counts.len() - place;
        (self.slice + i64::try_from(left).unwrap_or(i64::MAX)) * self.quota.width
    }

    pub(super) fn into_state(self) -> State {
        State::Quota {
            slice: self.slice,
            counts: self.counts.into(),
        }
    }
}
