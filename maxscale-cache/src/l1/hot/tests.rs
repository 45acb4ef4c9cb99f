use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use super::set::{TURN, WAYS};
use super::*;
use crate::l1::engine::{self, L1Engine};
use crate::l1::tests::{TRUST, kept};
use crate::l1::{L1, State};

/// Enough for copies of entries as the tests have them.
const BUDGET: u64 = 32 << 20;

const ENGINES: [L1Engine; 2] = [L1Engine::Moka, L1Engine::Quick];

/// An entry that pushes out others.
const HEAVY: u32 = 1 << 20;

fn put(l1: &L1, part: &str, value: u32) -> bool {
    let key = l1.probe(1, part).to_key();
    l1.insert(&key, l1.stamp(key.hash), kept(Some(value)))
}

/// What is at hand, within the time in which the engine is not asked.
fn at_hand(l1: &L1, part: &str) -> Option<u32> {
    // The first one after the engine was asked.
    at_hand_at(l1, part, 1).or_else(|| at_hand_at(l1, part, 1))
}

fn at_hand_at(l1: &L1, part: &str, now: u64) -> Option<u32> {
    l1.at_hand(&l1.probe(1, part), || now, |entry, _| value_of(entry))
}

/// As a cache reads.
fn read(l1: &L1, part: &str, now: u64) -> Option<u32> {
    at_hand_at(l1, part, now).or_else(|| value_of(&l1.get(&l1.probe(1, part))?))
}

fn value_of(entry: &Entry) -> Option<u32> {
    entry.value.as_ref()?.downcast_ref().copied()
}

/// Reads it until the thread has it at hand.
fn take(l1: &L1, part: &str) {
    for _ in 0..TURN {
        assert!(read(l1, part, 0).is_some());
    }
}

#[test]
fn entry_that_is_read_again_and_again_is_at_hand_until_it_is_dropped() {
    for engine in ENGINES {
        let l1 = L1::new(engine, BUDGET, 10);
        assert!(put(&l1, "k", 1));
        assert_eq!(at_hand(&l1, "k"), None);
        take(&l1, "k");
        assert_eq!(at_hand(&l1, "k"), Some(1));
        l1.drop_key(&l1.probe(1, "k"));
        assert_eq!(at_hand(&l1, "k"), None);
    }
}

#[test]
fn entry_that_took_the_place_of_another_is_what_all_threads_read() {
    let l1 = L1::new(L1Engine::default(), BUDGET, 10);
    assert!(put(&l1, "k", 1));
    let here = || {
        take(&l1, "k");
        assert_eq!(at_hand(&l1, "k"), Some(1));
    };
    thread::scope(|scope| drop([(); 3].map(|()| scope.spawn(here))));
    here();
    assert!(put(&l1, "k", 2));
    assert_eq!(at_hand(&l1, "k"), None);
    let hash = l1.probe(1, "k").hash;
    let mut hands = l1.hot.hands.iter();
    let has_copy = |it: &Hand| it.set_of(hash).find(hash).is_some();
    assert!(!hands.any(has_copy), "of other threads");
    assert_eq!(read(&l1, "k", 1), Some(2));

    take(&l1, "k");
    let key = l1.probe(1, "k").to_key();
    assert!(l1.insert(&key, l1.stamp(key.hash), kept(None)));
    assert_eq!(read(&l1, "k", 1), None, "it is known not to exist");
}

#[test]
fn copy_is_marked_stale_with_its_entry() {
    let l1 = L1::new(L1Engine::default(), BUDGET, 10);
    assert!(put(&l1, "k", 1));
    take(&l1, "k");
    l1.mark_stale(&l1.probe(1, "k"));
    take(&l1, "k");
    let state = |entry: &Entry, _| Some(entry.state(&TRUST));
    let look = || l1.at_hand(&l1.probe(1, "k"), || 1, state);
    assert_eq!(look().or_else(look), Some(State::Stale));
}

#[test]
fn engine_is_asked_again_and_again() {
    let l1 = L1::new(L1Engine::default(), BUDGET, 10);
    assert!(put(&l1, "k", 1));
    take(&l1, "k");
    let look = |now| at_hand_at(&l1, "k", now);
    assert_eq!(look(1), None);
    for now in [2, ASK_EVERY] {
        assert_eq!(look(now), Some(1), "{now}");
    }
    assert_eq!(look(1 + ASK_EVERY), None);
    assert_eq!(look(1 + ASK_EVERY), Some(1));
}

#[test]
fn nobody_has_at_hand_what_another_did_not_find() {
    let l1 = L1::new(L1Engine::default(), BUDGET, 10);
    assert!(put(&l1, "k", 1));
    take(&l1, "k");
    // As the engine does when it has no room.
    engine::Engine::remove(&l1.values, &l1.probe(1, "k"));
    assert_eq!(at_hand(&l1, "k"), Some(1), "nobody has noticed");
    thread::scope(|scope| {
        let other = scope.spawn(|| l1.get(&l1.probe(1, "k")).is_none());
        assert!(other.join().unwrap());
    });
    assert_eq!(at_hand(&l1, "k"), None);
}

#[test]
fn what_weighs_too_much_is_never_at_hand_and_what_is_over_is_swept_out() {
    let l1 = L1::new(L1Engine::default(), 1 << 20, 10);
    assert!(put(&l1, "k", 1));
    take(&l1, "k");
    assert_eq!(
        at_hand(&l1, "k"),
        None,
        "all copies together weigh too much"
    );

    let l1 = L1::new(L1Engine::default(), BUDGET, 10);
    assert!(put(&l1, "k", 1));
    take(&l1, "k");
    l1.sweep(799);
    assert_eq!(at_hand(&l1, "k"), Some(1));
    l1.sweep(800);
    assert_eq!(at_hand(&l1, "k"), None);
}

/// Puts so many keys of one set.
fn of_one_set(l1: &L1, count: usize) -> Vec<String> {
    let set_of = |part: &str| l1.hot.own().set_of(l1.probe(1, part).hash);
    let keys = (0..).map(|n: u32| n.to_string());
    let of_one = keys.filter(|part| ptr::eq(set_of(part), set_of("0")));
    let parts: Vec<_> = of_one.take(count).collect();
    for part in &parts {
        assert!(put(l1, part, 1));
    }
    parts
}

/// Fills a set, and names one more key of it, which the engine has too.
fn full_set(l1: &L1) -> (Vec<String>, String) {
    let mut parts = of_one_set(l1, WAYS + 1);
    let one_more = parts.pop().unwrap();
    for part in &parts {
        take(l1, part);
        assert_eq!(at_hand(l1, part), Some(1));
    }
    (parts, one_more)
}

#[test]
fn keys_that_take_turns_are_not_copied_each_time() {
    let l1 = L1::new(L1Engine::default(), BUDGET, 10);
    let (hot, one_more) = full_set(&l1);
    for now in 2..1_000 {
        assert_eq!(at_hand_at(&l1, &one_more, now), None);
        for part in &hot {
            let value = at_hand_at(&l1, part, now);
            assert_eq!(value, Some(1), "it was there first, and is read");
        }
    }
}

#[test]
fn copy_that_nobody_uses_gives_way_to_what_is_read() {
    let l1 = L1::new(L1Engine::default(), BUDGET, 10);
    let (hot, one_more) = full_set(&l1);
    // Once round for what was used, and one turn more.
    for _ in 0..=WAYS {
        take(&l1, &one_more);
    }
    assert_eq!(at_hand(&l1, &one_more), Some(1));
    let there = hot.iter().filter(|part| at_hand(&l1, part).is_some());
    assert_eq!(there.count(), WAYS - 1);
}

/// The place that a key gets with the next turn.
fn wanted<'a>(l1: &'a L1, part: &str) -> Place<'a> {
    let hash = l1.probe(1, part).hash;
    let mut found = (0..TURN).filter_map(|_| match l1.hot.find(hash) {
        Found::Wanted(place) => Some(place),
        _ => None,
    });
    found.next().unwrap()
}

#[test]
fn key_that_threads_of_one_hand_put_there_twice_is_forgotten_twice() {
    let l1 = L1::new(L1Engine::default(), BUDGET, 10);
    let parts = of_one_set(&l1, 2);
    let first = wanted(&l1, &parts[0]);
    take(&l1, &parts[1]);
    let second = wanted(&l1, &parts[0]);
    let probe = l1.probe(1, &parts[0]);
    let entry = l1.get(&probe).unwrap();
    let gone = [first, second].map(|place| place.keep(probe.to_key(), entry.clone()));
    assert_eq!(gone.iter().flatten().count(), 1, "the other key");
    l1.drop_key(&probe);
    assert_eq!(at_hand(&l1, &parts[0]), None);
    assert_eq!(l1.hot.own().weight(), 0);
}

#[test]
fn copies_of_a_thread_stay_within_its_share_and_what_is_read_last_is_among_them() {
    let l1 = L1::new(L1Engine::default(), BUDGET, 10);
    let share = BUDGET / PART / STRIPES as u64;
    let parts: Vec<_> = (0..256).map(|n| n.to_string()).collect();
    for part in &parts {
        let key = l1.probe(1, part).to_key();
        assert!(l1.insert(&key, l1.stamp(key.hash), weighing(4_000)));
        // Twice round the sets of the hand, and one turn more.
        for _ in 0..65 {
            take(&l1, part);
        }
        assert_eq!(at_hand(&l1, part), Some(0));
        assert!(l1.hot.own().weight() <= share);
    }
    assert!(l1.hot.own().weight() > share / 2);
    for part in &parts {
        l1.drop_key(&l1.probe(1, part));
    }
    assert_eq!(l1.hot.own().weight(), 0);
}

/// Values of a key only rise. Whoever saw one, or saw that all up to one are gone, never
/// sees an older one, in whichever thread.
#[test]
fn threads_agree_on_what_is_there() {
    for engine in ENGINES {
        let l1 = L1::new(engine, BUDGET, 10);
        let keys = ["a", "b", "c"];
        let least = keys.map(|_| AtomicU64::new(0));
        let written = keys.map(|_| AtomicU64::new(0));
        let done = AtomicBool::new(false);
        let rises = |at: usize, now: u64| {
            let (at_least, before) = (
                least[at].load(Ordering::SeqCst),
                written[at].load(Ordering::SeqCst),
            );
            let seen = match read(&l1, keys[at], now) {
                Some(value) => {
                    let value = u64::from(value);
                    assert!(value >= at_least, "{value} after {at_least}");
                    value
                }
                None => before + 1,
            };
            least[at].fetch_max(seen, Ordering::SeqCst);
        };
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for now in 1.. {
                        if done.load(Ordering::SeqCst) {
                            return;
                        }
                        // Often enough to have it at hand.
                        (0..3 * TURN).for_each(|n| rises(usize::from(n / TURN), now));
                    }
                });
            }
            scope.spawn(|| {
                for n in 0..u32::MAX {
                    if done.load(Ordering::SeqCst) {
                        return;
                    }
                    let key = l1.probe(2, &n.to_string()).to_key();
                    l1.insert(&key, l1.stamp(key.hash), weighing(HEAVY));
                }
            });
            for n in 1..=30_000_u32 {
                for (at, part) in keys.into_iter().enumerate() {
                    if n % 5 == 0 {
                        l1.drop_key(&l1.probe(1, part));
                        least[at].fetch_max(u64::from(n), Ordering::SeqCst);
                    } else if put(&l1, part, n) {
                        written[at].store(u64::from(n), Ordering::SeqCst);
                        least[at].fetch_max(u64::from(n), Ordering::SeqCst);
                    }
                }
            }
            done.store(true, Ordering::SeqCst);
        });
    }
}

fn weighing(weight: u32) -> Entry {
    let mut entry = kept(Some(0));
    let own = Arc::get_mut(&mut entry).unwrap();
    own.weight = weight;
    entry
}
