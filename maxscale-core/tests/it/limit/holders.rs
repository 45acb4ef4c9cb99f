//! Places that several processes share.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use maxscale_core::limit::{Concurrency, Down, HoldError, Holder, Holders, Source};
use maxscale_core::redis::{Command, Redis};
use maxscale_tests::{Lateness, Process, RedisServer, eventually};
use tokio::task::{JoinSet, yield_now};
use tokio::time::{Instant, timeout};

use super::{amply, both, commands, through};
use crate::redis::{AMPLE, SOON, config, connect, patient};

/// Longer than a process is held up, so that none is lost by that.
const LEASE: Duration = Duration::from_secs(6);

/// No test lasts as long.
pub(super) const LONG: Duration = Duration::from_secs(600);

pub(super) fn of(most: u32, lease: Duration) -> Concurrency {
    Concurrency::new(most).unwrap().lease(lease).unwrap()
}

/// As in a process of its own, on a machine that is busy.
pub(super) async fn process(server: &RedisServer, concurrency: Concurrency) -> Holders {
    let limits = both(through(connect(config(server).timeout(SOON)).await));
    Holders::new("test", concurrency, &limits).unwrap()
}

/// As in a process that soon goes on without Redis.
async fn impatient(server: &RedisServer, concurrency: Concurrency) -> Holders {
    let limits = both(amply(server).await);
    Holders::new("test", concurrency, &limits).unwrap()
}

/// None while Redis does not answer.
pub(super) async fn held_in(redis: &Redis) -> Option<i64> {
    let keys = Command::new("KEYS").arg("*:c");
    let keys = redis.command(keys).await.ok()?.into_array()?;
    match keys.into_iter().next() {
        Some(key) => {
            let count = Command::new("ZCARD").key(key.into_bytes()?);
            redis.command(count).await.ok()?.as_int()
        }
        None => Some(0),
    }
}

/// How long the last of the places is held, which is as long as Redis keeps them all.
async fn lease_left(redis: &Redis) -> Duration {
    let keys = redis.command(Command::new("KEYS").arg("*:c")).await;
    let key = keys.unwrap().into_array().unwrap().remove(0);
    let left = Command::new("PTTL").key(key.into_bytes().unwrap());
    let left = redis.command(left).await.unwrap().as_int().unwrap();
    Duration::from_millis(left.try_into().unwrap())
}

fn is_full(held: &Result<Holder, HoldError>) -> bool {
    matches!(held, Err(HoldError::TooMany { .. }))
}

#[tokio::test(flavor = "multi_thread")]
async fn at_no_moment_are_more_places_held_than_there_are() {
    const PLACES: usize = 7;
    let server = RedisServer::start().await;
    let mut processes = Vec::new();
    for _ in 0..4 {
        processes.push(process(&server, of(7, LONG)).await);
    }
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut tasks = JoinSet::new();
    for task in 0..64 {
        let holders = processes[task % 4].clone();
        let (now, most) = (now.clone(), most.clone());
        tasks.spawn(async move {
            let mut held = 0;
            while held < 10 {
                let Ok(holder) = holders.acquire("one").await else {
                    continue;
                };
                assert_eq!(holder.source(), Source::Store);
                held += 1;
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                for _ in 0..held {
                    yield_now().await;
                }
                now.fetch_sub(1, Ordering::SeqCst);
                if held % 2 == 0 {
                    assert!(holder.release().await);
                }
            }
        });
    }
    timeout(LONG, tasks.join_all()).await.unwrap();
    let most = most.load(Ordering::SeqCst);
    assert!((1..=PLACES).contains(&most), "{most}");
    // And there are as many.
    let mut held = Vec::new();
    for n in 0..PLACES {
        held.push(eventually(SOON, async || processes[n % 4].acquire("one").await.ok()).await);
    }
    assert!(processes[0].acquire("one").await.is_err());
}

const URL: &str = "MAXSCALE_TEST_HOLDS";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "the program that another test starts"]
#[expect(clippy::disallowed_methods, reason = "how the test tells its program")]
async fn program_that_holds() {
    let Ok(url) = std::env::var(URL) else { return };
    let config = maxscale_core::redis::RedisConfig::new(&url).unwrap();
    let limits = both(through(connect(config.timeout(SOON)).await));
    let holders = Holders::new("test", of(3, LEASE), &limits).unwrap();
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(holders.acquire("one").await.unwrap());
    }
    println!("holds {}", held.len());
    let _ = timeout(Duration::from_secs(60), held[0].lost()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn places_of_a_killed_process_are_free_after_one_lease_and_not_before() {
    let server = RedisServer::start().await;
    let program = Process::builder(std::env::current_exe().unwrap())
        .args(["--exact", "limit::holders::program_that_holds"])
        .args(["--ignored", "--nocapture"])
        .env(URL, server.url())
        .start();
    program.wait_for_line("holds 3", SOON).await;
    let lease = LEASE;
    let redis = patient(&server).await;
    let holders = process(&server, of(3, lease)).await;
    let start = Instant::now();
    while start.elapsed() < lease * 5 / 4 {
        match holders.acquire("one").await {
            Err(HoldError::TooMany { retry_after, .. }) => {
                assert!(!retry_after.is_zero() && retry_after <= lease);
            }
            other => panic!("it lives: {other:?}"),
        }
    }
    program.kill();
    let (killed, late) = (Instant::now(), Lateness::watch());
    // Renewed in time: some time of their last lease is left.
    let left = lease_left(&redis).await;
    assert!(!left.is_zero() && left <= lease, "{left:?}");
    let mut ours = Vec::new();
    for _ in 0..3 {
        ours.push(eventually(SOON, async || holders.acquire("one").await).await);
    }
    let took = killed.elapsed();
    println!("places of a killed process: free after {took:?} of {left:?}, a lease is {lease:?}");
    // By two clocks of this machine, and in whole milliseconds.
    let before = left.saturating_sub(Duration::from_millis(50));
    let after = left + lease / 2 + late.total();
    assert!((before..after).contains(&took), "{took:?}, {late:?}");
    assert!(is_full(&holders.acquire("one").await));
}

#[tokio::test(flavor = "multi_thread")]
async fn acquire_that_is_given_up_at_any_await_leaves_no_place_held() {
    let server = RedisServer::start().await;
    let holders = process(&server, of(1, LONG)).await;
    for polls in 0..40 {
        let mut given_up = Box::pin(holders.acquire("one"));
        for _ in 0..polls {
            if futures_util::poll!(&mut given_up).is_ready() {
                break;
            }
            yield_now().await;
        }
        drop(given_up);
        // Long before the lease is over.
        let next = eventually(SOON, async || holders.acquire("one").await).await;
        assert!(next.release().await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn released_place_is_free_for_another_process_at_once() {
    let server = RedisServer::start().await;
    let here = process(&server, of(1, LONG)).await;
    let there = process(&server, of(1, LONG)).await;
    for _ in 0..20 {
        let held = here.acquire("one").await.unwrap();
        assert!(is_full(&there.acquire("one").await));
        assert!(held.release().await);
        assert!(there.acquire("one").await.unwrap().release().await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn paused_redis_keeps_nobody_waiting_and_who_is_not_renewed_is_told() {
    let server = RedisServer::start().await;
    let redis = patient(&server).await;
    let lease = LEASE;
    let holders = impatient(&server, of(2, lease)).await;
    let before = holders.acquire("one").await.unwrap();
    let (start, late) = (Instant::now(), Lateness::watch());
    server.pause();
    let meanwhile = holders.acquire("one").await.unwrap();
    let took = start.elapsed();
    assert!(took < 2 * AMPLE + late.total(), "{took:?}, {late:?}");
    assert_eq!(meanwhile.source(), Source::Fallback);
    assert!(is_full(&holders.acquire("one").await), "both are held here");
    assert!(!before.is_lost());
    timeout(SOON, before.lost()).await.unwrap();
    let took = start.elapsed();
    assert!(took <= lease + AMPLE + late.total(), "{took:?}, {late:?}");
    assert!(before.is_lost());
    assert!(!meanwhile.is_lost(), "it has no lease to lose");
    server.resume();

    // As soon as it is back, both count there.
    eventually(SOON, async || {
        let held = held_in(&redis).await;
        (held == Some(2)).then_some(()).ok_or(held)
    })
    .await;
    let there = process(&server, of(2, lease)).await;
    assert!(is_full(&there.acquire("one").await));
    assert!(before.is_lost() && !meanwhile.is_lost());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_redis_forgot_is_held_again_by_the_next_renewal() {
    let server = RedisServer::start().await;
    let redis = patient(&server).await;
    let (here, there) = (
        process(&server, of(2, LEASE)).await,
        process(&server, of(2, LEASE)).await,
    );
    let _held = [here.acquire("one").await, here.acquire("one").await];
    redis.command(Command::new("FLUSHALL")).await.unwrap();
    eventually(SOON, async || held_in(&redis).await == Some(2)).await;
    assert!(is_full(&there.acquire("one").await));
    assert!(_held.iter().flatten().all(|holder| !holder.is_lost()));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_finds_no_room_after_redis_forgot_is_told_so() {
    let server = RedisServer::start().await;
    let redis = patient(&server).await;
    let (here, there) = (
        process(&server, of(1, LEASE)).await,
        process(&server, of(1, LEASE)).await,
    );
    let held = here.acquire("one").await.unwrap();
    let other = eventually(SOON, async || {
        redis.command(Command::new("FLUSHALL")).await.unwrap();
        there.acquire("one").await
    });
    let other = other.await;
    timeout(SOON, held.lost()).await.unwrap();
    assert!(!other.is_lost());
    assert_eq!(held_in(&redis).await, Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn while_redis_is_down_places_are_given_as_the_policy_says() {
    let server = RedisServer::start().await;
    let share = process(&server, of(3, LONG)).await;
    let open = process(&server, of(3, LONG).when_down(Down::Open)).await;
    let closed = process(&server, of(3, LONG).when_down(Down::Closed)).await;
    let before = share.acquire("one").await.unwrap();
    server.kill().await;

    let mut held = Vec::new();
    while let Ok(holder) = share.acquire("one").await {
        assert_eq!(holder.source(), Source::Fallback);
        held.push(holder);
    }
    // What it held before is a part of its share, which is all or less.
    assert!(held.len() <= 2, "{held:?}");
    assert_eq!(share.held_here("one"), held.len() + 1);
    for _ in 0..10 {
        held.push(open.acquire("one").await.unwrap());
    }
    let refused = closed.acquire("one").await.unwrap_err();
    assert!(matches!(refused, HoldError::Unknown { .. }), "{refused:?}");
    assert!(!before.release().await, "nobody heard it");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_places_of_a_principal_are_renewed_by_one_command() {
    let server = RedisServer::start().await;
    let redis = patient(&server).await;
    let holders = process(&server, of(400, LEASE)).await;
    let acquired = (0..400).map(|_| holders.acquire("one"));
    let held = futures_util::future::try_join_all(acquired).await.unwrap();
    let (start, before) = (Instant::now(), commands(&redis).await);
    eventually(SOON, async || commands(&redis).await >= before + 6).await;
    let sent = commands(&redis).await - before;
    // Three in a lease, and a heartbeat every five seconds.
    let renewals = start.elapsed().as_millis() / (LEASE / 3).as_millis();
    assert!(sent <= i64::try_from(renewals).unwrap() + 3, "{sent}");
    assert!(held.iter().all(|holder| !holder.is_lost()));
    assert_eq!(held_in(&redis).await, Some(400));
}
