use proptest::prelude::*;

use super::*;

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(24 * 3_600);
const LIFE: Duration = Duration::from_secs(900);

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_micros(0).after(Duration::from_secs(seconds))
}

fn rotation() -> Rotation {
    Rotation::new(DAY, HOUR, LIFE).unwrap()
}

/// What a store does with a step; the keys keep their places.
fn done(keys: &mut Vec<(KeyState, Timestamp)>, step: Step, now: Timestamp) {
    match step {
        Step::Add(state) => keys.push((state, now)),
        Step::Promote(place) => {
            for key in keys.iter_mut().filter(|key| key.0 == KeyState::Active) {
                *key = (KeyState::Retiring, now);
            }
            keys[place] = (KeyState::Active, now);
        }
        Step::Remove(place) => keys[place] = (KeyState::Gone, now),
    }
}

#[test]
fn first_key_signs_at_once_and_no_second_one_comes_before_it_is_due() {
    let (rotation, mut keys) = (rotation(), Vec::new());
    let first = rotation.step(&keys, at(0)).unwrap();
    assert_eq!(first, Step::Add(KeyState::Active));
    done(&mut keys, first, at(0));
    assert_eq!(rotation.step(&keys, at(23 * 3_600 - 1)), None);
    let second = rotation.step(&keys, at(23 * 3_600)).unwrap();
    assert_eq!(second, Step::Add(KeyState::Next));
    done(&mut keys, second, at(23 * 3_600));
    assert_eq!(rotation.step(&keys, at(24 * 3_600 - 1)), None);
    let exchange = rotation.step(&keys, at(24 * 3_600)).unwrap();
    assert_eq!(exchange, Step::Promote(1));
    done(&mut keys, exchange, at(24 * 3_600));
    // An hour for who has not seen it, a quarter for the last token, ten seconds of clocks.
    let gone = 24 * 3_600 + 3_600 + 900 + 10;
    assert_eq!(rotation.step(&keys, at(gone - 1)), None);
    assert_eq!(rotation.step(&keys, at(gone)), Some(Step::Remove(0)));
}

#[test]
fn nothing_is_to_be_done_before_it_is_due_and_something_is_then() {
    let (rotation, mut keys, mut now) = (rotation(), Vec::new(), 0);
    let tick = Duration::from_secs(1);
    for _ in 0..40 {
        let due = rotation.due_in(&keys, at(now));
        if due >= tick {
            assert_eq!(rotation.step(&keys, at(now).after(due - tick)), None);
        }
        now += due.as_secs();
        let step = rotation.step(&keys, at(now));
        done(&mut keys, step.expect("it is due"), at(now));
        keys.retain(|key| key.0 != KeyState::Gone);
    }
    assert!(now > 12 * 24 * 3_600, "{now}");
}

#[test]
fn exchange_that_takes_longer_than_the_time_between_two_is_refused() {
    assert!(Rotation::new(2 * HOUR, HOUR, LIFE).is_err());
    assert!(Rotation::new(3 * HOUR, HOUR, LIFE).is_ok());
    assert!(Rotation::new(Duration::ZERO, Duration::ZERO, Duration::ZERO).is_err());
}

proptest! {
    /// Processes look at the keys at any time, each at least once an hour. What one signs by
    /// the view that it has, any other verifies by the view that it has, as long as the
    /// token lives; and of several keys at most one signs in any view.
    #[test]
    fn no_valid_token_is_refused_while_views_differ(
        looks in prop::collection::vec((60_u64..3_600, 60_u64..3_600, 60_u64..3_600), 120),
    ) {
        let (rotation, mut keys) = (rotation(), Vec::new());
        let mut history: Vec<(u64, Vec<(KeyState, Timestamp)>)> = Vec::new();
        // Somebody does what is to be done, every now and then.
        let mut now = 0;
        for (steps, _, _) in &looks {
            while let Some(step) = rotation.step(&keys, at(now)) {
                done(&mut keys, step, at(now));
            }
            let active = keys.iter().filter(|key| key.0 == KeyState::Active).count();
            prop_assert_eq!(active, 1);
            history.push((now, keys.clone()));
            now += steps;
        }
        let seen = |when: u64| {
            let past = history.iter().rev().find(|it| it.0 <= when);
            &past.or(history.first()).unwrap().1
        };
        let mut signed_at = 3_600;
        for (_, signer, verifier) in &looks {
            if signed_at + 900 >= now {
                break;
            }
            let view = seen(signed_at - (*signer).min(signed_at));
            let signs = view.iter().position(|key| key.0 == KeyState::Active).unwrap();
            for used_at in [signed_at, signed_at + 450, signed_at + 899] {
                let view = seen(used_at - (*verifier).min(used_at));
                let state = view.get(signs).map(|key| key.0);
                prop_assert!(
                    state.is_some_and(|state| state != KeyState::Gone),
                    "signed at {signed_at}, used at {used_at}: {state:?}"
                );
            }
            signed_at += 977;
        }
    }
}
