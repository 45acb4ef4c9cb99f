use proptest::prelude::*;

use super::*;

const RULES: ConcurrencyRules = ConcurrencyRules {
    initial: 20,
    min: 2,
    max: 1_000,
};

/// A window of a thousand calls that took `millis` in the mean.
fn window(probe: bool, millis: u64) -> Seen {
    Seen {
        probe,
        came: 1_000,
        pressed: 900,
        begun: 1_000,
        ended: 1_000,
        timed: 1_000,
        took: Duration::from_millis(millis) * 1_000,
        dropped: 0,
    }
}

fn known() -> Concurrency {
    Concurrency::new(RULES).on(window(true, 10))
}

#[test]
fn grows_without_a_queue_and_falls_with_one() {
    assert!(known().on(window(false, 10)).limit() > 20);
    assert!(known().on(window(false, 20)).limit() < 20);
}

#[test]
fn window_that_was_not_pressed_says_nothing_of_more() {
    let idle = Seen {
        pressed: 0,
        ..window(false, 10)
    };
    let later = (0..100).fold(known(), |it, _| it.on(idle));
    assert_eq!(later.limit(), 20);
}

#[test]
fn calls_of_which_the_slowest_are_missing_say_nothing_but_that_windows_are_short() {
    let begun = 1_060;
    let missing = Seen {
        begun,
        ..window(false, 30)
    };
    let later = known().on(missing);
    assert_eq!((later.limit(), later.window()), (20, SHORTEST * 2));
    let stalled = Seen {
        begun,
        ..Seen::default()
    };
    assert_eq!(known().on(stalled), known());
}

/// The limit after two slow windows among others, of so many calls each.
fn after_slow_ones(calls: u64, micros: u64) -> u32 {
    let few = |micros| Seen {
        begun: calls,
        ended: calls,
        timed: calls,
        took: Duration::from_micros(micros * calls),
        ..window(false, 0)
    };
    let windows = [10_000, micros, 10_000, micros, 10_000].map(few);
    windows.into_iter().fold(known(), Concurrency::on).limit()
}

#[test]
fn growth_is_ended_neither_by_chance_nor_by_queues_between_which_there_was_none() {
    // Five times 15 %: of so few calls it may be chance.
    assert_eq!(after_slow_ones(120, 12_600), 40);
    // Of so many it is a queue, which lowers the limit; then it grows as before.
    assert_eq!(after_slow_ones(1_000, 12_600), 25);
}

#[test]
fn dropped_calls_lower_the_limit_by_a_tenth() {
    let dropped = Seen {
        dropped: 112,
        ..window(false, 10)
    };
    assert_eq!(known().on(dropped).limit(), 18);
    let few = Seen {
        dropped: 111,
        ..dropped
    };
    assert!(known().on(few).limit() > 20);
}

#[test]
fn probes_are_seldom_when_they_say_the_same_and_often_when_they_do_not() {
    let calm = (0..20).fold(known(), |it, _| it.on(window(true, 10)));
    assert_eq!(calm.every, SELDOM);
    assert_eq!(calm.on(window(true, 13)).every, OFTEN);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn limit_stays_within_its_bounds_whatever_is_seen(
        windows in proptest::collection::vec(
            (any::<bool>(), 0..2_000_u64, 0..2_000_u64, 0..2_000_u64, 0..600_000_u64),
            1..200,
        ),
    ) {
        let mut it = Concurrency::new(ConcurrencyRules { initial: 10, min: 2, max: 50 });
        for (probe, begun, timed, dropped, millis) in windows {
            let took = Duration::from_millis(millis);
            let seen = Seen { probe, came: begun, pressed: begun, begun, ended: timed, timed, took, dropped };
            it = it.on(seen);
            prop_assert!((2..=50).contains(&it.limit()));
            prop_assert!((1..it.limit()).contains(&it.limit_in(true)));
            prop_assert!((SHORTEST..=LONGEST).contains(&it.window()));
        }
    }
}
