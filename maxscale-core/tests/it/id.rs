use std::sync::Barrier;
use std::thread;

use maxscale_core::clock::{Clock, ManualTime, Timestamp};
use maxscale_core::fact::VirtualShard;
use maxscale_core::id::{Id, IdGenerator, KeyspaceTag};

const THREADS: usize = 8;
const START: i64 = 1_700_000_000_000_000;
const HOUR: i64 = 3_600_000_000;
/// So many ids a thread draws in a round, and between two jumps of the clock.
const A_ROUND: usize = 125_000;
const BETWEEN_JUMPS: usize = 5_000;

/// Draws a round's ids of one thread; the clock jumps on the way.
fn drawn(ids: &IdGenerator, time: &ManualTime, thread: usize) -> Vec<Id> {
    (0..A_ROUND)
        .map(|n| {
            if n % BETWEEN_JUMPS == 0 {
                let jump = [0, HOUR, -HOUR][(n / BETWEEN_JUMPS + thread) % 3];
                time.set(Timestamp::from_micros(START + jump));
            }
            ids.draw(VirtualShard::new(7))
        })
        .collect()
}

/// Lets all threads draw at once.
fn round(ids: &IdGenerator, time: &ManualTime) -> Vec<Vec<Id>> {
    let start = Barrier::new(THREADS);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let start = &start;
                scope.spawn(move || {
                    start.wait();
                    drawn(ids, time, thread)
                })
            })
            .collect();
        let joined = threads.into_iter().map(|thread| thread.join().unwrap());
        joined.collect()
    })
}

/// What one round has drawn is sorted and checked, so few ids are held at a time.
fn draw_and_check(total: usize) {
    let (clock, time) = Clock::manual(Timestamp::from_micros(START));
    // Nothing but time and counter tells these ids apart.
    let ids = IdGenerator::with_random(clock, KeyspaceTag::default(), || 0);
    let mut checked = 0;
    let mut latest = None;
    while checked < total {
        let mut all = Vec::with_capacity(THREADS * A_ROUND);
        for thread in round(&ids, &time) {
            assert!(thread.is_sorted_by(|a, b| a < b), "out of order");
            all.extend(thread);
        }
        all.sort_unstable();
        assert!(all.is_sorted_by(|a, b| a < b), "an id came twice");
        // Rounds follow each other, and so do their ids.
        assert!(latest < all.first().copied(), "an id came twice");
        latest = all.last().copied();
        checked += all.len();
    }
    let latest = i64::try_from(latest.unwrap().millis()).unwrap();
    assert!(latest >= (START + HOUR) / 1_000, "the clock never jumped");
}

#[test]
fn ids_of_many_threads_are_unique_and_ordered_though_the_clock_jumps() {
    draw_and_check(2_000_000);
}

/// `cargo test --release -p maxscale-core --test it hundred_million -- --ignored`
#[test]
#[ignore = "takes half a minute; the same with fewer ids runs always"]
fn hundred_million_ids_are_unique_and_ordered_though_the_clock_jumps() {
    draw_and_check(100_000_000);
}

#[cfg(feature = "telemetry")]
#[test]
fn metric_tells_how_far_ids_run_ahead_of_the_clock() {
    let metrics = maxscale_core::telemetry::Metrics::new();
    let (clock, time) = Clock::manual(Timestamp::from_micros(START));
    let ids = IdGenerator::new(clock, KeyspaceTag::new(3).unwrap()).measured(&metrics.meter("t"));
    let ahead = || {
        let page = metrics.exposition().unwrap();
        let series = "maxscale_id_ahead_seconds{maxscale_keyspace=\"3\"} ";
        let line = page.lines().find_map(|line| line.strip_prefix(series));
        line.map(|value| value.parse::<f64>().unwrap())
    };
    ids.draw(VirtualShard::new(0));
    assert_eq!(ahead(), Some(0.0));
    time.set(Timestamp::from_micros(START - HOUR));
    ids.draw(VirtualShard::new(0));
    assert_eq!(ahead(), Some(3_600.0));
    time.set(Timestamp::from_micros(START + HOUR));
    assert_eq!(ahead(), Some(0.0));
    drop(ids);
    assert_eq!(ahead(), None);
}
