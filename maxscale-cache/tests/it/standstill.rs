//! A process that stands still while another invalidates all that it has.

use std::convert::Infallible;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use maxscale_cache::{Cache, Invalidated};
use maxscale_core::redis::Redis;
use maxscale_tests::{Process, RedisServer};
use tokio::time::{Instant, sleep};

use crate::program::{self, connect, patient, raise, variable, wait_for, wait_until_in_use};
use crate::source::{BOUND, LIMIT, LONG};

const STORE: &str = "MAXSCALE_TEST_STORE";
const BURST: &str = "MAXSCALE_TEST_BURST";

/// How long the process stands still.
const BLOCKED: Duration = Duration::from_millis(300);

/// How long reads and invalidations of all values may take.
const WAIT: Duration = Duration::from_secs(120);

/// Reads all values; whatever is loaded is `now`. How many are something else?
async fn count_old(cache: &Cache<u64>, burst: usize, now: u64) -> usize {
    let reads = (0..=burst).map(|id| {
        let cache = cache.clone();
        async move {
            let load = move || async move { Ok::<_, Infallible>(Some(now)) };
            let value = cache.get_or_load(&id.to_string(), load).await;
            *value.unwrap().unwrap() != now
        }
    });
    let reads = stream::iter(reads).buffer_unordered(32);
    reads.filter(|old| std::future::ready(*old)).count().await
}

// One thread, so that all of it stands still.
#[tokio::test]
#[ignore = "the program that other tests start"]
#[expect(clippy::disallowed_methods, reason = "it blocks its runtime")]
async fn program_that_stands_still() {
    let Some(url) = variable(STORE) else { return };
    let burst = variable(BURST).unwrap().parse().unwrap();
    let redis = connect(&url).await;
    let hub = patient(connect(&url).await).build();
    wait_until_in_use(&hub).await;
    let cache = hub.cache::<u64>(LONG);
    assert_eq!(count_old(&cache, burst, 1).await, 0);
    println!("full");
    wait_for(&redis, "burst", LIMIT).await;
    std::thread::sleep(BLOCKED);
    println!("awake");
    wait_for(&redis, "check", WAIT).await;
    let old = count_old(&cache, burst, 2).await;
    println!("old: {old}; {:?}", hub.stats());
}

/// Drops all values but the last of the burst at once, and that one after them.
async fn invalidate_all(cache: &Cache<u64>, burst: usize) {
    let burst_of = (0..burst).map(|id| {
        let cache = cache.clone();
        async move { cache.invalidate(&id.to_string()).await }
    });
    let mut all = stream::iter(burst_of).buffer_unordered(512);
    while let Some(done) = all.next().await {
        assert_eq!(done, Invalidated::Everywhere);
    }
    let last = cache.invalidate(&burst.to_string()).await;
    assert_eq!(last, Invalidated::Everywhere);
}

/// How long the burst took, and what the process that stood still told.
async fn check(burst: usize) -> (Duration, String) {
    let server = RedisServer::start().await;
    let redis: Redis = connect(&server.url()).await;
    let hub = patient(connect(&server.url()).await).build();
    wait_until_in_use(&hub).await;
    let variables = [(STORE, server.url()), (BURST, burst.to_string())];
    let reader: Process = program::start("standstill::program_that_stands_still", &variables);
    reader.wait_for_line("full", WAIT).await;
    raise(&redis, "burst").await;
    let start = Instant::now();
    invalidate_all(&hub.cache::<u64>(LONG), burst).await;
    let took = start.elapsed();
    // The time in which all old values have to be gone, not one for things to settle.
    sleep(BOUND).await;
    raise(&redis, "check").await;
    let told = reader.wait_for_line("old: ", WAIT).await;
    assert!(told.starts_with("old: 0;"), "{told}");
    (took, told)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_old_value_outlives_a_burst_at_a_process_that_stands_still() {
    println!("{:?}", check(10_000).await);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "fifty thousand values take half a minute; CONTRIBUTING.md has the command"]
async fn no_old_value_outlives_a_burst_of_fifty_thousand() {
    println!("{:?}", check(50_000).await);
}
