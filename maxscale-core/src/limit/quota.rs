use std::num::NonZeroU32;
use std::time::Duration;

/// How many requests a key may make: a rate, and a burst on top.
///
/// In any window of length `w` at most `burst + per · w / window` are admitted.
/// Time is counted in whole microseconds, rounded so that never more are
/// admitted than that; up to 10,000 per second fewer than 1 % are lost to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Quota {
    per: NonZeroU32,
    window: Duration,
    burst: NonZeroU32,
    // Both in microseconds; their sum with any time of this century is an
    // integer that a double holds exactly, because Lua has no other numbers.
    interval: i64,
    tolerance: i64,
}

/// A quota that no clock could keep.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum QuotaError {
    /// More than one request per microsecond.
    #[error("the quota admits more than one request per microsecond; lower it or widen its window")]
    TooFast,

    /// The burst would take decades to come back.
    #[error("the quota's burst takes longer than 50 years to come back; lower it")]
    TooSlow,
}

/// Fifty years in microseconds; far below 2⁵², see [`Quota::interval`].
const LONGEST: i64 = 50 * 366 * 24 * 3_600 * 1_000_000;

// === impl Quota ===

impl Quota {
    /// `per` requests in each `window`, with a burst of a tenth of `per`.
    ///
    /// The burst is at least 1. So 100 per minute admits at most 110 in any
    /// minute.
    ///
    /// # Errors
    ///
    /// [`QuotaError`] when no clock could keep the quota.
    pub fn new(per: NonZeroU32, window: Duration) -> Result<Self, QuotaError> {
        let burst = NonZeroU32::new(per.get() / 10).unwrap_or(NonZeroU32::MIN);
        Self::build(per, window, burst)
    }

    /// `per` requests in each minute, with a burst of a tenth of `per`.
    ///
    /// # Errors
    ///
    /// [`QuotaError::TooFast`] above 60 million.
    pub fn per_minute(per: NonZeroU32) -> Result<Self, QuotaError> {
        Self::new(per, Duration::from_secs(60))
    }

    /// Sets how many may come at once.
    ///
    /// Default: a tenth of the rate's number, at least 1.
    ///
    /// # Errors
    ///
    /// [`QuotaError::TooSlow`] when the burst would take decades to come back.
    pub fn burst(self, burst: NonZeroU32) -> Result<Self, QuotaError> {
        Self::build(self.per, self.window, burst)
    }

    fn build(per: NonZeroU32, window: Duration, burst: NonZeroU32) -> Result<Self, QuotaError> {
        let micros = i64::try_from(window.as_micros()).map_err(|_| QuotaError::TooSlow)?;
        let requests = i64::from(per.get());
        if requests > micros {
            return Err(QuotaError::TooFast);
        }
        // Rounded up: a shorter interval would admit more than was asked for.
        let interval = micros / requests + i64::from(micros % requests > 0);
        let tolerance = interval
            .checked_mul(i64::from(burst.get()))
            .filter(|tolerance| *tolerance <= LONGEST)
            .ok_or(QuotaError::TooSlow)?;
        Ok(Self {
            per,
            window,
            burst,
            interval,
            tolerance,
        })
    }

    /// How many requests each window admits.
    pub const fn per(&self) -> NonZeroU32 {
        self.per
    }

    /// The window's length.
    pub const fn window(&self) -> Duration {
        self.window
    }

    /// How many may come at once.
    pub const fn burst_size(&self) -> NonZeroU32 {
        self.burst
    }

    /// Microseconds in which one request is regained.
    pub(super) const fn interval(&self) -> i64 {
        self.interval
    }

    /// Microseconds in which the whole burst is regained.
    pub(super) const fn tolerance(&self) -> i64 {
        self.tolerance
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn n(number: u32) -> NonZeroU32 {
        NonZeroU32::new(number).unwrap()
    }

    #[test]
    fn default_burst_is_a_tenth_and_at_least_one() {
        let burst = |per| Quota::per_minute(n(per)).unwrap().burst_size().get();
        assert_eq!([1, 9, 10, 100, 10_000].map(burst), [1, 1, 1, 10, 1_000]);
    }

    #[test]
    fn quota_that_no_clock_keeps_is_refused() {
        let second = Duration::from_secs(1);
        assert_eq!(Quota::new(n(1), Duration::ZERO), Err(QuotaError::TooFast));
        assert_eq!(Quota::new(n(1_000_001), second), Err(QuotaError::TooFast));
        assert!(Quota::new(n(1_000_000), second).is_ok());
        assert_eq!(Quota::new(n(1), Duration::MAX), Err(QuotaError::TooSlow));
        let slow = Quota::per_minute(n(1)).unwrap();
        assert_eq!(slow.burst(n(u32::MAX)), Err(QuotaError::TooSlow));
    }
}
