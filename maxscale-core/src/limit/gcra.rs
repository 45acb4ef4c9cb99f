//! The generic cell rate algorithm, as pure arithmetic in whole microseconds.
//!
//! A key's state is one number: the moment at which its whole burst will be
//! available again (the "theoretical arrival time"). Each request moves it on
//! by one interval; it may be at most one tolerance (interval · burst) ahead.

use std::time::Duration;

use super::{Decision, Quota};

/// The moment at which a key's whole burst is available again, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full(i64);

// === impl Full ===

impl Full {
    /// The state of a key that was never used.
    pub const ALWAYS: Self = Self(i64::MIN);

    /// The moment `micros`, counted from the same point as `now`.
    pub const fn at(micros: i64) -> Self {
        Self(micros)
    }

    /// The moment, in microseconds.
    pub const fn as_micros(self) -> i64 {
        self.0
    }
}

/// Decides one request at `now` (microseconds from any fixed point).
///
/// A denied request consumes nothing. A state further ahead than `quota`
/// allows (the quota was lowered, or the clock stepped back) is pulled in, also
/// by a denied request: nobody waits longer than `quota` says.
pub fn decide(state: Full, now: i64, quota: &Quota) -> (Decision, Full) {
    let furthest = now.saturating_add(quota.tolerance());
    let full = state.0.max(now).min(furthest);
    let next = full.saturating_add(quota.interval());
    if next > furthest {
        let decision = Decision::Deny {
            retry_after: span(furthest, next),
            reset: span(now, full),
        };
        return (decision, Full(state.0.min(furthest)));
    }
    let remaining = furthest.saturating_sub(next) / quota.interval();
    let decision = Decision::Allow {
        // At most the burst, which is a u32.
        remaining: u32::try_from(remaining).unwrap_or(u32::MAX),
        reset: span(now, next),
    };
    (decision, Full(next))
}

fn span(from: i64, to: i64) -> Duration {
    Duration::from_micros(u64::try_from(to.saturating_sub(from)).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use proptest::prelude::*;

    use super::*;

    fn quota(per: u32, window: Duration, burst: u32) -> Quota {
        let n = |number| NonZeroU32::new(number).unwrap();
        Quota::new(n(per), window).unwrap().burst(n(burst)).unwrap()
    }

    fn quotas() -> impl Strategy<Value = Quota> {
        (1..500_u32, 1..120_000_u64, 1..50_u32).prop_filter_map("too fast", |(per, ms, burst)| {
            let n = |number| NonZeroU32::new(number).unwrap();
            Quota::new(n(per), Duration::from_millis(ms))
                .and_then(|quota| quota.burst(n(burst)))
                .ok()
        })
    }

    #[test]
    fn hundred_per_minute_admits_at_most_110_in_the_first_minute() {
        let quota = Quota::per_minute(NonZeroU32::new(100).unwrap()).unwrap();
        let (mut state, mut admitted) = (Full::ALWAYS, 0);
        for now in (0..60_000_000).step_by(1_000) {
            let (decision, next) = decide(state, now, &quota);
            state = next;
            admitted += u32::from(decision.is_allowed());
        }
        assert_eq!(admitted, 109);
    }

    #[test]
    fn lowered_quota_tells_a_true_wait() {
        let slow = quota(1, Duration::from_secs(3_600), 10);
        let (_, state) = (0..10).fold((None, Full::ALWAYS), |(_, state), _| {
            let (decision, state) = decide(state, 0, &slow);
            (Some(decision), state)
        });
        let fast = quota(1, Duration::from_secs(1), 1);
        let (decision, state) = decide(state, 5, &fast);
        let Decision::Deny { retry_after, .. } = decision else {
            panic!("{decision:?}");
        };
        let later = 5 + i64::try_from(retry_after.as_micros()).unwrap();
        assert!(decide(state, later, &fast).0.is_allowed());
    }

    proptest! {
        #[test]
        fn no_window_admits_more_than_burst_and_rate(
            quota in quotas(),
            steps in prop::collection::vec(0..2_000_000_i64, 1..400),
        ) {
            let (mut state, mut now, mut admitted) = (Full::ALWAYS, 0, Vec::new());
            for step in steps {
                now += step;
                let (decision, next) = decide(state, now, &quota);
                state = next;
                if decision.is_allowed() {
                    admitted.push(now);
                }
            }
            let window = i64::try_from(quota.window().as_micros()).unwrap();
            for (i, from) in admitted.iter().enumerate() {
                for (j, to) in admitted.iter().enumerate().skip(i) {
                    let burst = i64::from(quota.burst_size().get());
                    let rate = i64::from(quota.per().get()) * (to - from) / window;
                    prop_assert!(i64::try_from(j - i + 1).unwrap() <= burst + rate);
                }
            }
        }

        #[test]
        fn denied_request_consumes_nothing_and_waits_truly(
            quota in quotas(),
            now in 0..i64::MAX / 2,
        ) {
            let mut state = Full::ALWAYS;
            let retry_after = loop {
                let (decision, next) = decide(state, now, &quota);
                match decision {
                    Decision::Allow { .. } => state = next,
                    Decision::Deny { retry_after, .. } => {
                        prop_assert_eq!(next, state);
                        break i64::try_from(retry_after.as_micros()).unwrap();
                    }
                }
            };
            prop_assert!(!decide(state, now + retry_after - 1, &quota).0.is_allowed());
            prop_assert!(decide(state, now + retry_after, &quota).0.is_allowed());
        }

        #[test]
        fn idle_key_gives_exactly_its_burst(quota in quotas(), now in 0..i64::MAX / 2) {
            let mut state = Full::ALWAYS;
            for left in (0..quota.burst_size().get()).rev() {
                let (decision, next) = decide(state, now, &quota);
                let admitted = matches!(decision, Decision::Allow { remaining, .. } if remaining == left);
                prop_assert!(admitted, "{left} left: {decision:?}");
                state = next;
            }
            prop_assert!(!decide(state, now, &quota).0.is_allowed());
        }

        #[test]
        fn nothing_overflows(
            per in 1..=u32::MAX,
            window in any::<u64>(),
            burst in 1..=u32::MAX,
            state in any::<i64>(),
            now in any::<i64>(),
        ) {
            let n = |number| NonZeroU32::new(number).unwrap();
            let quota = Quota::new(n(per), Duration::from_micros(window))
                .and_then(|quota| quota.burst(n(burst)));
            if let Ok(quota) = quota {
                let (decision, _) = decide(Full::at(state), now, &quota);
                if let Decision::Deny { retry_after, .. } = decision {
                    prop_assert!(retry_after <= Duration::from_micros(window.max(1)));
                }
            }
        }
    }
}
