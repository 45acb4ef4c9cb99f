//! Guesses that several processes count.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use maxscale_core::limit::{
    Attempt, AttemptError, Attempts, Concurrency, Down, Holders, Limits, Log, Source,
};
use maxscale_core::refusal::{Class, Classify as _};
use maxscale_tests::{Lateness, RedisCluster, RedisServer, eventually};
use tokio::task::{JoinSet, yield_now};
use tokio::time::{Instant, sleep, timeout};

use super::{HOUR, amply, both, through};
use crate::redis::{AMPLE, SOON, cluster_config, config, connect};

/// On a machine that is busy.
async fn patient(server: &RedisServer) -> Limits {
    both(through(connect(config(server).timeout(SOON)).await))
}

/// As in a process of its own.
async fn process(server: &RedisServer) -> Attempts {
    let limits = patient(server).await;
    Attempts::builder("login", &limits).build().unwrap()
}

fn wait_of(refused: Result<Attempt, AttemptError>) -> Duration {
    let refused = refused.unwrap_err();
    assert_eq!(refused.class(), Class::Limited, "{refused}");
    refused.retry_after().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_hundred_guesses_at_once_at_most_five_reach_the_check() {
    let server = RedisServer::start().await;
    let processes = [process(&server).await, process(&server).await];
    let checked = Arc::new(AtomicUsize::new(0));
    let mut guesses = JoinSet::new();
    for guess in 0..100 {
        let (attempts, checked) = (processes[guess % 2].clone(), checked.clone());
        guesses.spawn(async move {
            let Ok(attempt) = attempts.begin("ann", "a").await else {
                return;
            };
            checked.fetch_add(1, Ordering::SeqCst);
            for _ in 0..guess {
                yield_now().await;
            }
            attempt.failed().await;
        });
    }
    guesses.join_all().await;
    let checked = checked.load(Ordering::SeqCst);
    assert!((1..=5).contains(&checked), "{checked}");
    println!("of 100 guesses at once {checked} reached the check");
}

#[tokio::test(flavor = "multi_thread")]
async fn owner_logs_in_while_a_thousand_addresses_guess() {
    let server = RedisServer::start().await;
    let (here, there) = (process(&server).await, process(&server).await);
    let login = here.begin("ann", "home").await.unwrap();
    login.succeeded().await;
    let guessing = async {
        let mut checked = 0;
        for round in 0..10 {
            let guesses = (0..100).map(|n| {
                let client = format!("bot {}", round * 100 + n);
                let attempts = there.clone();
                async move {
                    let attempt = attempts.begin("ann", &client).await.ok()?;
                    attempt.failed().await
                }
            });
            checked += join_all(guesses).await.into_iter().flatten().count();
        }
        checked
    };
    let logging_in = async {
        for _ in 0..20 {
            let login = here.begin("ann", "home").await.unwrap();
            assert!(login.is_known());
            login.succeeded().await;
        }
    };
    let (checked, ()) = tokio::join!(guessing, logging_in);
    assert_eq!(checked, 50, "the strangers' attempts in 15 minutes");
    // Also from another process, and while nobody else gets in.
    assert!(there.begin("ann", "new device").await.is_err());
    there.begin("ann", "home").await.unwrap().succeeded().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn success_gives_back_its_own_attempt_and_no_other() {
    let server = RedisServer::start().await;
    let (here, there) = (process(&server).await, process(&server).await);
    let mut begun = Vec::new();
    for _ in 0..5 {
        begun.push(here.begin("ann", "a").await.unwrap());
    }
    let wait = wait_of(there.begin("ann", "a").await);
    assert!(wait > Duration::from_secs(600), "{wait:?}");
    begun.remove(1).succeeded().await;
    let again = there.begin("ann", "a").await.unwrap();
    wait_of(there.begin("ann", "a").await);
    // Its own account gives nothing back at another.
    there.begin("bob", "a").await.unwrap().succeeded().await;
    wait_of(there.begin("ann", "a").await);
    drop((again, begun));
}

#[tokio::test(flavor = "multi_thread")]
async fn attempt_that_is_dropped_has_failed_for_all_processes() {
    let server = RedisServer::start().await;
    // So long a wait that it is seen before its end.
    let first = Duration::from_secs(60);
    let process = async || {
        let limits = patient(&server).await;
        let attempts = Attempts::builder("login", &limits).backoff(first, HOUR);
        attempts.build().unwrap()
    };
    let (here, there) = (process().await, process().await);
    drop(here.begin("ann", "a").await.unwrap());
    let wait = eventually(SOON, async || match there.begin("ann", "a").await {
        Err(refused) => refused.retry_after(),
        Ok(attempt) => {
            attempt.withdrawn().await;
            None
        }
    });
    let wait = wait.await;
    assert!(wait <= first, "{wait:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_as_told_is_admitted_and_the_wait_doubles() {
    let server = RedisServer::start().await;
    let limits = patient(&server).await;
    // Nobody is held up for so long.
    let first = Duration::from_secs(3);
    let attempts = Attempts::builder("login", &limits)
        .backoff(first, HOUR)
        .build()
        .unwrap();
    for doubled in [1, 2] {
        let attempt = attempts.begin("ann", "a").await.unwrap();
        let told = attempt.failed().await.unwrap();
        assert_eq!(told, first * doubled);
        let wait = wait_of(attempts.begin("ann", "a").await);
        assert!(wait <= told, "{wait:?} of {told:?}");
        sleep(wait).await;
    }
    // A success ends the waits.
    attempts.begin("ann", "a").await.unwrap().succeeded().await;
    let failed = attempts.begin("ann", "a").await.unwrap().failed().await;
    assert_eq!(failed, Some(first));
}

/// Nobody is held up for so long.
const FORGOTTEN: Duration = Duration::from_secs(4);

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_until_the_oldest_attempt_is_forgotten_is_admitted() {
    let server = RedisServer::start().await;
    let limits = patient(&server).await;
    let attempts = Attempts::builder("login", &limits)
        .per_pair(Log::new(2, FORGOTTEN).unwrap())
        .backoff(Duration::from_millis(1), Duration::from_millis(1))
        .build()
        .unwrap();
    let begun = [
        attempts.begin("ann", "a").await,
        attempts.begin("ann", "a").await,
    ];
    let wait = wait_of(attempts.begin("ann", "a").await);
    assert!(wait <= FORGOTTEN);
    drop(begun);
    sleep(wait).await;
    assert!(attempts.begin("ann", "a").await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn restart_of_processes_and_of_redis_forgets_no_failure() {
    let server = RedisServer::start().await;
    let begun = async || {
        let limits = patient(&server).await;
        let attempts = Attempts::builder("login", &limits).backoff(HOUR, HOUR);
        attempts.build().unwrap()
    };
    let before = begun().await;
    before.begin("ann", "home").await.unwrap().succeeded().await;
    let failed = before.begin("ann", "a").await.unwrap().failed().await;
    assert_eq!(failed, Some(HOUR));
    drop(before);
    server.restart().await;
    let after = begun().await;
    let wait = wait_of(after.begin("ann", "a").await);
    assert!(wait > HOUR / 2, "{wait:?}");
    assert!(after.begin("ann", "home").await.unwrap().is_known());
}

#[tokio::test(flavor = "multi_thread")]
async fn while_redis_is_down_each_process_admits_its_share_or_nothing() {
    let server = RedisServer::start().await;
    let limits = both(amply(&server).await);
    let share = Attempts::builder("login", &limits).build().unwrap();
    let closed = Attempts::builder("reset", &limits).when_down(Down::Closed);
    let closed = closed.build().unwrap();
    share.begin("ann", "home").await.unwrap().succeeded().await;
    let reserved = share.begin("ann", "a").await.unwrap();
    server.pause();
    let (start, late) = (Instant::now(), Lateness::watch());
    let refused = timeout(SOON, closed.begin("ann", "a"))
        .await
        .unwrap()
        .unwrap_err();
    assert_eq!(refused.class(), Class::Unavailable);
    assert!(refused.retry_after() >= Some(Duration::from_secs(1)));
    let mut begun = Vec::new();
    while let Ok(attempt) = share.begin("ann", "a").await {
        begun.push(attempt);
    }
    assert_eq!(begun.len(), 5);
    // What it knows itself it still knows.
    assert!(share.begin("ann", "home").await.unwrap().is_known());
    reserved.failed().await;
    let took = start.elapsed();
    assert!(took < 6 * AMPLE + late.total(), "{took:?}, {late:?}");
    // What was sent, and cut off with its connection, is too late by then.
    sleep(AMPLE).await;
    server.resume();
    // What it decided alone is not told to Redis: there it was the first attempt.
    let other = patient(&server).await;
    let other = Attempts::builder("login", &other).build().unwrap();
    let mut more = 0;
    while let Ok(attempt) = other.begin("ann", "a").await {
        assert_eq!(attempt.source(), Source::Store);
        more += 1;
        begun.push(attempt);
    }
    assert_eq!(more, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn attempts_and_places_are_counted_on_a_cluster() {
    let cluster = RedisCluster::start().await;
    let config = cluster_config(&cluster).timeout(SOON);
    let limits = both(through(connect(config).await));
    let attempts = Attempts::builder("login", &limits).build().unwrap();
    let one = Concurrency::new(1).unwrap();
    let holders = Holders::new("test", one, &limits).unwrap();
    // Names that lie on all of its servers.
    for n in 0..20 {
        let (account, client) = (format!("account {n}"), format!("client {n}"));
        let attempt = attempts.begin(&account, &client).await.unwrap();
        assert_eq!(attempt.source(), Source::Store);
        attempt.succeeded().await;
        let attempt = attempts.begin(&account, &client).await.unwrap();
        assert!(attempt.is_known());
        assert_eq!(attempt.failed().await, Some(Attempts::DEFAULT_FIRST_WAIT));
        let held = holders.acquire(&account).await.unwrap();
        assert_eq!(held.source(), Source::Store);
        assert!(holders.acquire(&account).await.is_err());
        assert!(held.release().await);
    }
}
