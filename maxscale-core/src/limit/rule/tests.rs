use proptest::prelude::*;

use super::*;
use crate::limit::{Call, Entry, Run};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// A key with its state, decided by the model alone.
struct Key {
    rule: Rule,
    state: Option<State>,
}

impl Key {
    fn new(rule: impl Into<Rule>) -> Self {
        Self {
            rule: rule.into(),
            state: None,
        }
    }

    fn give_back(&mut self, now: i64, tokens: u64) {
        let mut key = self.rule.see(self.state.as_ref(), now);
        key.give_back(now, tokens);
        self.state = Some(key.into_state());
    }

    /// Whether `cost` tokens were granted, or how long to wait, in microseconds.
    fn take(&mut self, now: i64, cost: u32) -> Result<(), Option<i64>> {
        let call = Call {
            principal: "one".into(),
            entries: vec![Entry {
                policy: "one".into(),
                rule: self.rule,
                back: 0,
            }],
            runs: vec![Run {
                count: 1,
                costs: vec![cost],
                force: false,
            }],
        };
        let mut keys = [self.rule.see(self.state.as_ref(), now)];
        let (answers, changed) = call.decide(&mut keys, now);
        let [key] = keys;
        if changed[0] {
            self.state = Some(key.into_state());
        }
        let wait = answers[0].statuses[0].retry_after;
        match answers[0].count {
            0 => Err(wait.map(|wait| i64::try_from(wait.as_micros()).unwrap())),
            _ => Ok(()),
        }
    }
}

fn rates() -> impl Strategy<Value = Rule> {
    (1..500_u32, 1..120_000_u64, 1..50_u32).prop_filter_map("too fast", |(per, ms, burst)| {
        let rate = Rate::new(per, Duration::from_millis(ms)).ok()?;
        Some(rate.burst(burst).ok()?.into())
    })
}

fn quotas() -> impl Strategy<Value = Rule> {
    (1..50_u32, 1_000..5_000_000_u64, 1..20_u8).prop_filter_map("too fast", |(n, us, slices)| {
        let quota = Quota::new(n, Duration::from_micros(us)).ok()?;
        Some(quota.slices(slices).ok()?.into())
    })
}

fn logs() -> impl Strategy<Value = Rule> {
    (1..64_u32, 1..5_000_000_u64)
        .prop_map(|(n, us)| Log::new(n, Duration::from_micros(us)).unwrap().into())
}

fn rules() -> impl Strategy<Value = Rule> {
    prop_oneof![rates(), quotas(), logs()]
}

#[test]
fn default_burst_is_a_tenth_and_at_least_one() {
    let burst = |per| Rate::per_minute(per).unwrap().burst_size();
    assert_eq!([1, 9, 10, 100, 10_000].map(burst), [1, 1, 1, 10, 1_000]);
}

#[test]
fn rule_that_no_clock_keeps_is_refused() {
    assert_eq!(Rate::new(1, Duration::ZERO), Err(RuleError::TooFast));
    assert_eq!(Rate::new(1_000_001, SECOND), Err(RuleError::TooFast));
    assert!(Rate::new(1_000_000, SECOND).is_ok());
    assert_eq!(Rate::new(1, Duration::MAX), Err(RuleError::TooSlow));
    let slow = Rate::per_minute(1).unwrap();
    assert_eq!(slow.burst(u32::MAX), Err(RuleError::TooSlow));
    assert_eq!(slow.burst(0), Err(RuleError::Zero));
    assert_eq!(Rate::per_second(0), Err(RuleError::Zero));
    assert_eq!(Quota::new(0, MINUTE), Err(RuleError::Zero));
    assert_eq!(Quota::new(1, Duration::ZERO), Err(RuleError::TooFast));
    assert_eq!(Quota::new(1, Duration::MAX), Err(RuleError::TooSlow));
    for slices in [0, 61] {
        let quota = Quota::new(1, MINUTE).unwrap().slices(slices);
        assert_eq!(quota, Err(RuleError::Slices));
    }
    assert_eq!(Log::new(0, MINUTE), Err(RuleError::Zero));
    assert_eq!(Log::new(65, MINUTE), Err(RuleError::LongLog));
    assert_eq!(Log::new(5, Duration::ZERO), Err(RuleError::TooFast));
    assert_eq!(Log::new(5, Duration::MAX), Err(RuleError::TooSlow));
}

#[test]
fn hundred_per_minute_admits_at_most_110_as_a_rate_and_100_as_a_quota() {
    for (rule, expected) in [
        (Rule::from(Rate::per_minute(100).unwrap()), 109),
        (Quota::new(100, MINUTE).unwrap().into(), 100),
    ] {
        let mut key = Key::new(rule);
        let steps = (0..60_000_000).step_by(1_000);
        let admitted = steps.filter(|now| key.take(*now, 1).is_ok()).count();
        assert_eq!(admitted, expected, "{rule:?}");
    }
}

#[test]
fn lowered_rule_and_clock_that_steps_back_tell_a_true_wait() {
    let rate = |per, window| Rate::new(per, window).unwrap().burst(1).unwrap().into();
    let quota: Rule = Quota::new(3, SECOND).unwrap().into();
    let log: Rule = Log::new(3, SECOND).unwrap().into();
    for [before, after] in [
        [rate(1, 60 * MINUTE), rate(1, SECOND)],
        [quota, quota],
        [log, log],
    ] {
        let start = 1_000_000_000_000;
        for back in [0, 3_600_000_000] {
            let mut key = Key::new(before);
            while key.take(start, 1).is_ok() {}
            key.rule = after;
            let now = start - back + 5;
            // A quota's last slice may have to go with the window.
            let wait = key.take(now, 1).unwrap_err().unwrap();
            assert!(wait <= 1_100_000, "{wait} of {after:?}");
            assert!(key.take(now + wait, 1).is_ok(), "{after:?}");
        }
    }
}

/// What is left counts on: else more than the limit were used within a window.
#[test]
fn what_is_given_back_is_the_oldest() {
    for rule in [
        Rule::from(Quota::new(2, SECOND).unwrap()),
        Log::new(2, SECOND).unwrap().into(),
    ] {
        let mut key = Key::new(rule);
        assert!(key.take(0, 1).is_ok());
        assert!(key.take(800_000, 1).is_ok());
        key.give_back(800_000, 1);
        assert!(key.take(800_000, 1).is_ok(), "{rule:?}");
        // Two are used at 0.8 s, so there is none until they leave.
        for now in [900_000, 1_200_000, 1_700_000] {
            assert!(key.take(now, 1).is_err(), "{now} of {rule:?}");
        }
        assert!(key.take(2_000_000, 1).is_ok(), "{rule:?}");
    }
}

#[test]
fn part_of_a_rule_admits_a_part_and_never_nothing() {
    let mut key = Key::new(Rule::from(Rate::per_minute(100).unwrap()).part(4));
    let steps = (0..600_000_000).step_by(1_000);
    let admitted = steps.filter(|now| key.take(*now, 1).is_ok()).count();
    assert!((240..=253).contains(&admitted), "{admitted}");
    for rule in [
        Rule::from(Rate::per_minute(2).unwrap()),
        Quota::new(2, MINUTE).unwrap().into(),
        Log::new(2, MINUTE).unwrap().into(),
    ] {
        assert!(Key::new(rule.part(100)).take(0, 1).is_ok());
    }
}

proptest! {
    #[test]
    fn no_window_admits_more_than_the_rule_says(
        rule in rules(),
        steps in prop::collection::vec((0..2_000_000_i64, 1..4_u32, 0..20_u32), 1..400),
    ) {
        let (mut key, mut now, mut admitted) = (Key::new(rule), 60_000_000_000_000, Vec::new());
        for (step, cost, scale) in steps {
            now += step >> scale;
            if key.take(now, cost).is_ok() {
                admitted.push((now, i64::from(cost)));
            }
        }
        let window = micros(rule.window());
        for (i, (from, _)) in admitted.iter().enumerate() {
            let mut sum = 0;
            for (to, cost) in &admitted[i..] {
                sum += cost;
                let most = match rule {
                    Rule::Rate(rate) => {
                        let rate_part = i64::from(rate.per()) * (to - from) / window;
                        i64::from(rate.burst_size()) + rate_part
                    }
                    _ if to - from < window => i64::from(rule.most()),
                    _ => break,
                };
                prop_assert!(sum <= most, "{sum} in {} of {rule:?}", to - from);
            }
        }
    }

    #[test]
    fn denied_request_consumes_nothing_and_waits_truly(
        rule in rules(),
        now in 0..9_000_000_000_000_000_i64,
        cost in 1..5_u32,
    ) {
        let mut key = Key::new(rule);
        if cost > rule.most() {
            prop_assert_eq!(key.take(now, cost), Err(None));
            return Ok(());
        }
        let wait = loop {
            let before = key.state.clone();
            if let Err(wait) = key.take(now, cost) {
                prop_assert_eq!(&key.state, &before);
                break wait.unwrap();
            }
        };
        prop_assert!(wait > 0);
        prop_assert!(key.take(now + wait - 1, cost).is_err());
        prop_assert!(key.take(now + wait, cost).is_ok());
    }

    #[test]
    fn idle_key_gives_exactly_what_there_is(rule in rules(), now in 0..i64::MAX / 4) {
        let mut key = Key::new(rule);
        for _ in 0..rule.most() {
            prop_assert!(key.take(now, 1).is_ok());
        }
        prop_assert!(key.take(now, 1).is_err());
    }

    #[test]
    fn nothing_overflows(
        per in 1..=u32::MAX,
        window in any::<u64>(),
        burst in 1..=u32::MAX,
        cost in any::<u32>(),
        full in any::<i64>(),
        debt in any::<bool>(),
        now in 0..1_i64 << 53,
        tokens in any::<u64>(),
    ) {
        let window = Duration::from_micros(window);
        let states = [
            State::Rate { full, debt },
            State::Quota { slice: full, counts: [u32::MAX; 3].into() },
            State::Log(vec![full; 200]),
            State::Blocked { until: full },
        ];
        let rules = [
            Rate::new(per, window).and_then(|rate| rate.burst(burst)).map(Rule::from),
            Quota::new(per, window).map(Rule::from),
            Log::new(per % 64, window).map(Rule::from),
        ];
        for rule in rules.into_iter().flatten() {
            for state in &states {
                let mut key = rule.see(Some(state), now);
                key.add(now, tokens);
                key.status(now, cost);
                key.give_back(now, tokens);
                key.status(now, cost);
                key.room(now);
            }
        }
    }
}
