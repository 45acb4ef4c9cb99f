//! When something that grows will be full: pure arithmetic on a few readings.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::Timestamp;

/// The last readings of what is used.
#[derive(Clone, Debug, Default)]
pub(super) struct Trend(VecDeque<(Timestamp, f64)>);

/// How many readings make a trend: some minutes of them.
const KEPT: usize = 30;
/// Two readings are no trend.
const LEAST: usize = 3;
/// What is further away than a year is not foreseen.
const FARTHEST: Duration = Duration::from_secs(365 * 86_400);

// === impl Trend ===

impl Trend {
    /// Takes in a reading. A clock that went backwards begins anew.
    pub(super) fn add(&mut self, at: Timestamp, used: f64) {
        if self.0.back().is_some_and(|(last, _)| *last >= at) {
            self.0.clear();
        }
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back((at, used));
    }

    /// The time from the last reading until `limit` is reached, at the slope of
    /// the line that fits the readings best. `None` if it is not reached.
    pub(super) fn exhausted_in(&self, limit: f64) -> Option<Duration> {
        let (_, last) = *self.0.back()?;
        if last >= limit {
            return Some(Duration::ZERO);
        }
        let slope = self.slope()?;
        let seconds = (limit - last) / slope;
        // What is no number is no time either.
        let foreseen = slope > 0.0 && seconds <= FARTHEST.as_secs_f64();
        foreseen.then(|| Duration::from_secs_f64(seconds))
    }

    /// Units per second, by least squares.
    fn slope(&self) -> Option<f64> {
        if self.0.len() < LEAST {
            return None;
        }
        let (start, _) = *self.0.front()?;
        let points = || {
            let seconds = |at: Timestamp| at.since(start).as_secs_f64();
            self.0.iter().map(move |(at, used)| (seconds(*at), *used))
        };
        let count = points().map(|_| 1.0).sum::<f64>();
        let mean_at = points().map(|(at, _)| at).sum::<f64>() / count;
        let mean_used = points().map(|(_, used)| used).sum::<f64>() / count;
        let both = points().map(|(at, used)| (at - mean_at) * (used - mean_used));
        let at = points().map(|(at, _)| (at - mean_at).powi(2));
        Some(both.sum::<f64>() / at.sum::<f64>())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(second: u64) -> Timestamp {
        Timestamp::from_micros(0).after(Duration::from_secs(second))
    }

    fn of(readings: impl IntoIterator<Item = (u64, f64)>) -> Trend {
        let mut trend = Trend::default();
        for (second, used) in readings {
            trend.add(at(second), used);
        }
        trend
    }

    #[test]
    fn steady_growth_is_full_when_the_line_is() {
        let trend = of((0..10).map(|n| (n * 10, n as f64)));
        // 9 of 100 after 90 s at a tenth per second.
        assert_eq!(trend.exhausted_in(100.0), Some(Duration::from_secs(910)));
    }

    #[test]
    fn what_stands_still_or_shrinks_is_never_full() {
        assert_eq!(of((0..10).map(|n| (n, 5.0))).exhausted_in(10.0), None);
        let shrinks = of((0..10).map(|n| (n, 50.0 - n as f64)));
        assert_eq!(shrinks.exhausted_in(100.0), None);
    }

    #[test]
    fn two_readings_are_no_trend() {
        assert_eq!(of([(0, 1.0), (1, 2.0)]).exhausted_in(10.0), None);
    }

    #[test]
    fn what_is_full_is_full_now() {
        assert_eq!(of([(0, 10.0)]).exhausted_in(10.0), Some(Duration::ZERO));
    }

    #[test]
    fn clock_that_goes_backwards_begins_anew() {
        let mut trend = of((100..110).map(|n| (n, n as f64)));
        trend.add(at(5), 0.0);
        assert_eq!(trend.exhausted_in(100.0), None);
    }

    proptest! {
        #[test]
        fn line_is_found_whatever_its_slope_and_pace(
            start in 0_u64..2_000_000_000,
            pace in 1_u64..3_600,
            first in 0.0..1e12_f64,
            slope in 1e-3..1e6_f64,
            count in 3_u64..60,
            left in 1.0..1e6_f64,
        ) {
            let used = |n: u64| first + slope * (n * pace) as f64;
            let trend = of((0..count).map(|n| (start + n * pace, used(n))));
            let limit = used(count - 1) + slope * left;
            // Sums of numbers a billion times as large lose the last digits.
            prop_assume!(slope * pace as f64 > first * 1e-6);
            let foreseen = trend.exhausted_in(limit).unwrap().as_secs_f64();
            prop_assert!((foreseen / left - 1.0).abs() < 0.01, "{foreseen} for {left}");
        }

        #[test]
        fn any_readings_give_a_time_within_a_year_or_none(
            readings in prop::collection::vec((0_u64..1_000_000, prop::num::f64::ANY), 0..100),
            limit in prop::num::f64::ANY,
        ) {
            let foreseen = of(readings).exhausted_in(limit);
            prop_assert!(foreseen.is_none_or(|it| it <= FARTHEST));
        }
    }
}
