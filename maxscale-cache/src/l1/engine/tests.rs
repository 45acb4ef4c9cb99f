//! What each engine must keep.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use smallvec::SmallVec;

use super::*;
use crate::l1::Kept;

const ENGINES: [L1Engine; 2] = [L1Engine::Moka, L1Engine::Quick];

const BUDGET: u64 = 1 << 20;

fn entry(since: u64, weight: u32) -> Entry {
    Arc::new(Kept {
        value: Some(Arc::new(since)),
        fence: None,
        since,
        begun: 0,
        loaded: 0,
        tags: SmallVec::new(),
        cost: 0,
        fresh_until: since,
        spoiled: AtomicBool::new(false),
        stale_until: since,
        known: AtomicU64::new(1),
        epoch: AtomicU64::new(0),
        weight,
    })
}

/// Of keys with the same number of two caches or parts all have the same hash.
fn key(hash: u64, cache: u32, part: &str) -> NearKey {
    let hash = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    Probe { hash, cache, part }.to_key()
}

fn found(engine: &Chosen, key: &NearKey) -> Option<u64> {
    engine.get(&key.probe()).map(|entry| entry.since)
}

/// How many of the keys that were put are there, whatever is counted.
fn there(engine: &Chosen, keys: impl Iterator<Item = NearKey>) -> u64 {
    keys.filter(|key| found(engine, key).is_some()).count() as u64
}

#[test]
fn last_entry_of_a_key_is_found_until_it_is_removed() {
    for engine in ENGINES.map(|it| Chosen::by_weight(it, BUDGET)) {
        let k = key(1, 1, "k");
        assert_eq!(found(&engine, &k), None);
        engine.put(k.clone(), entry(1, 600));
        engine.put(k.clone(), entry(2, 700));
        assert_eq!(found(&engine, &k), Some(2));
        engine.remove(&k.probe());
        assert_eq!(found(&engine, &k), None);
        engine.put(k.clone(), entry(3, 600));
        assert_eq!(found(&engine, &k), Some(3));
    }
}

#[test]
fn keys_with_one_hash_are_not_one() {
    for engine in ENGINES.map(|it| Chosen::by_weight(it, BUDGET)) {
        // Of each length about that from which on a part has a place of its own.
        let long: Vec<_> = (35..38).map(|len| "k".repeat(len)).collect();
        let parts = long.iter().map(|part| key(1, 1, part));
        let short = [key(1, 1, "k"), key(1, 2, "k"), key(1, 1, "l")];
        let keys: Vec<_> = short.into_iter().chain(parts).collect();
        for (n, key) in keys.iter().enumerate() {
            engine.put(key.clone(), entry(n as u64, 600));
        }
        for (n, key) in keys.iter().enumerate() {
            assert_eq!(found(&engine, key), Some(n as u64));
            assert_eq!(key.probe().to_key(), *key);
        }
        engine.remove(&keys[0].probe());
        assert_eq!(found(&engine, &keys[0]), None);
        assert_eq!(found(&engine, &keys[1]), Some(1));
    }
}

#[test]
fn entry_over_the_whole_budget_leaves_nothing_older_behind() {
    for engine in ENGINES.map(|it| Chosen::by_weight(it, BUDGET)) {
        let k = key(1, 1, "k");
        engine.put(k.clone(), entry(1, 600));
        engine.put(k.clone(), entry(2, u32::MAX));
        assert_ne!(found(&engine, &k), Some(1));
        engine.len();
        assert_eq!(found(&engine, &k), None);
    }
}

#[test]
fn longest_value_fits_into_a_small_budget() {
    for engine in ENGINES.map(|it| Chosen::by_weight(it, 3 << 20)) {
        let k = key(1, 1, "k");
        let longest = u32::try_from(crate::Hub::MAX_VALUE + 1_000).unwrap();
        engine.put(k.clone(), entry(1, longest));
        engine.len();
        assert_eq!(found(&engine, &k), Some(1));
    }
}

#[test]
fn entries_stay_within_the_budget_and_use_it() {
    for engine in ENGINES.map(|it| Chosen::by_weight(it, 64 << 20)) {
        let keys = || (0..200_000).map(|n| key(n, 1, &n.to_string()));
        for key in keys() {
            engine.put(key, entry(1, 1_024));
        }
        engine.len();
        let most = 64 << 10;
        let there = there(&engine, keys());
        assert!(there <= most, "{there}");
        assert!(there > most * 9 / 10, "{there}");
        let weight = engine.weight();
        assert!(weight <= 64 << 20 && weight > 57 << 20, "{weight}");
    }
}

#[test]
fn entries_stay_within_their_number() {
    for engine in ENGINES.map(|it| Chosen::by_count(it, 1_000)) {
        let keys = || (0..20_000).map(|n| key(n, 1, &n.to_string()));
        for key in keys() {
            engine.put(key, entry(1, 600));
        }
        let len = engine.len();
        assert!(len <= 1_000 && len > 900, "{len}");
        assert_eq!(there(&engine, keys()), len);
    }
}

#[test]
fn sweep_drops_what_is_over_and_nothing_else() {
    for engine in ENGINES.map(|it| Chosen::by_weight(it, 1 << 30)) {
        let keys = || (0..10_000).map(|n| key(n, 1, &n.to_string()));
        for (n, key) in (0_u64..).zip(keys()) {
            engine.put(key, entry(n % 10, 600));
        }
        engine.sweep(|entry| entry.is_over(4));
        assert_eq!(engine.len(), 5_000);
        let left = keys().filter_map(|key| found(&engine, &key));
        assert_eq!(left.filter(|since| *since > 4).count(), 5_000);
    }
}

#[test]
fn nobody_finds_what_was_there_before_a_put_or_a_remove() {
    for engine in ENGINES.map(|it| Chosen::by_weight(it, BUDGET)) {
        let keys: Vec<_> = (0..4).map(|n| key(n, 1, "raced")).collect();
        let known: Vec<_> = keys.iter().map(|_| AtomicU64::new(0)).collect();
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !done.load(Ordering::SeqCst) {
                        for (key, known) in keys.iter().zip(&known) {
                            let at_least = known.load(Ordering::SeqCst);
                            let found = found(&engine, key);
                            assert!(found.is_none_or(|it| it >= at_least), "{found:?}");
                        }
                    }
                });
            }
            // Pushes out, sweeps, and moves what is there.
            scope.spawn(|| {
                for n in 0.. {
                    if done.load(Ordering::SeqCst) {
                        return;
                    }
                    engine.put(key(n % 5_000 + 10, 1, "other"), entry(u64::MAX, 1_024));
                    if n % 10_000 == 0 {
                        engine.sweep(|entry| entry.since == u64::MAX);
                    }
                }
            });
            for n in 1..=30_000_u64 {
                for (key, known) in keys.iter().zip(&known) {
                    if n % 3 == 0 {
                        engine.remove(&key.probe());
                        known.store(n + 1, Ordering::SeqCst);
                    } else {
                        engine.put(key.clone(), entry(n, 600));
                        known.store(n, Ordering::SeqCst);
                    }
                }
            }
            done.store(true, Ordering::SeqCst);
        });
    }
}
