use std::fs;
use std::time::Duration;

use maxscale_core::clock::{Clock, Timestamp};
use maxscale_tests::PostgresServer;

use super::{ALONE, BATCH, Bench, median, p99};

/// This process's memory, in KiB.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS"));
    let words = line.unwrap().split_whitespace().nth(1);
    words.unwrap().parse().unwrap()
}

/// What claims take with few jobs, and with so many waiting and as many scheduled: in
/// turns, so that what else the machine does hits both.
async fn compare(backlog: u32, batches: usize) -> (Vec<Duration>, Vec<Duration>) {
    let _turn = ALONE.lock().await;
    let server = PostgresServer::start().await;
    let few = u32::try_from((batches + 10) * BATCH).unwrap();
    let small = Bench::start(&server).await;
    small.fill(few, None).await;
    small.work(5).await;

    let large = Bench::start(&server).await;
    large.fill(few + backlog, None).await;
    let tomorrow = Clock::system().now().as_micros() + 86_400_000_000;
    let tomorrow = Timestamp::from_micros(tomorrow);
    large.fill(backlog, Some(tomorrow)).await;
    large.work(5).await;
    let before = resident();
    let (mut few, mut many) = (Vec::new(), Vec::new());
    for _ in 0..batches {
        few.extend(small.work(1).await);
        many.extend(large.work(1).await);
    }
    few.sort_unstable();
    many.sort_unstable();
    let after = resident();
    println!(
        "claims of {BATCH}: few p50 {:?}, p99 {:?}; beside {backlog} waiting and as many scheduled \
         p50 {:?}, p99 {:?}; memory {before} to {after} KiB",
        median(&few),
        p99(&few),
        median(&many),
        p99(&many),
    );
    assert!(
        after < before + 16_384,
        "memory grew by {} KiB",
        after - before
    );
    (few, many)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claim_does_not_slow_down_with_ten_thousand_jobs() {
    let (small, large) = compare(10_000, 20).await;
    // Of twenty claims one may be held up by anything.
    let (small, large) = (median(&small), median(&large));
    // A claim that read what waits would take a hundred times as long.
    assert!(large < 20 * small, "{small:?}, {large:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "stores two million jobs; CONTRIBUTING.md has the command"]
async fn claim_does_not_slow_down_with_two_million_jobs() {
    let (small, large) = compare(1_000_000, 200).await;
    let (small, large) = (p99(&small), p99(&large));
    assert!(large <= 2 * small, "{small:?}, {large:?}");
}
