//! A server that is paused, killed, restarted, or not there yet.

use std::time::Duration;

use futures_util::future::join_all;
use maxscale_core::redis::{Command, Redis, RedisError, Reply};
use maxscale_tests::{Lateness, RedisServer, eventually};
use tokio::time::{Instant, timeout};

use super::log::Log;
use super::{SOON, TIMEOUT, ample, config, connect, kill, open, patient};

/// How long the handle may take once the server is back.
const BACK: Duration = Duration::from_secs(2);

/// How much later than its timeout a call may end.
const OVER: Duration = Duration::from_millis(10);

/// Calls at once: enough for a 99th percentile.
const CALLS: usize = 400;

/// How long each of many calls at once waited, the shortest first; and how long the
/// machine let wait meanwhile.
async fn waits(redis: &Redis) -> (Vec<Duration>, Duration) {
    let late = Lateness::watch();
    let call = async || {
        let start = Instant::now();
        let get = redis.command(Command::new("GET").key("key"));
        assert!(get.await.is_err(), "the server is not there");
        start.elapsed()
    };
    let mut waits = join_all((0..CALLS).map(|_| call())).await;
    waits.sort_unstable();
    (waits, late.total())
}

/// Nothing is sent any more, so nothing waits.
async fn fails_fast(redis: &Redis) {
    assert!(!redis.is_up(), "the breaker is open");
    let (start, late) = (Instant::now(), Lateness::watch());
    for _ in 0..1_000 {
        let error = redis.command(Command::new("GET").key("key")).await;
        assert!(matches!(error, Err(RedisError::Down)), "{error:?}");
    }
    let took = start.elapsed();
    assert!(took < TIMEOUT + late.total(), "{took:?}, {late:?}");
}

pub(super) async fn is_back(redis: &Redis) {
    let (start, late) = (Instant::now(), Lateness::watch());
    eventually(SOON, async || {
        redis.ping().await?;
        redis.is_up().then_some(()).ok_or(RedisError::Down)
    })
    .await;
    let took = start.elapsed();
    println!("back after {took:?}");
    assert!(took < BACK + late.total(), "{took:?}, {late:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn paused_server_delays_each_call_by_its_timeout_once() {
    let server = RedisServer::start().await;
    let redis = open(&server).await;
    let mut over = Duration::MAX;
    // The bound on the 99th percentile is close, and the machine is busy with
    // other tests: the best of some rounds counts. The other bound is for every
    // call.
    for _ in 0..5 {
        server.pause();
        let (waits, late) = waits(&redis).await;
        let longest = waits[CALLS - 1];
        assert!(longest < 2 * TIMEOUT + late, "{longest:?}, {late:?}");
        over = over.min(waits[CALLS * 99 / 100].saturating_sub(TIMEOUT + late));
        fails_fast(&redis).await;
        server.resume();
        is_back(&redis).await;
    }
    println!("timeout {TIMEOUT:?}, 99th percentile {over:?} more");
    assert!(over <= OVER, "{over:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_and_restarted_server_is_used_again() {
    let server = RedisServer::start().await;
    let redis = open(&server).await;
    for _ in 0..3 {
        server.kill().await;
        let (waits, late) = waits(&redis).await;
        let longest = waits[CALLS - 1];
        assert!(longest < 2 * TIMEOUT + late, "{longest:?}, {late:?}");
        eventually(SOON, async || !redis.is_up()).await;
        fails_fast(&redis).await;
        server.restart().await;
        is_back(&redis).await;
    }
}

/// On one thread, so that the log of the handle's tasks is this test's.
#[tokio::test]
async fn log_has_one_line_when_the_server_goes_and_one_when_it_comes() {
    let log = Log::default();
    let _log = log.listen();
    let server = RedisServer::start().await;
    // Three of them are longer than a stall of the machine, which would be one more
    // line, and one is shorter than a silent connection is kept.
    let redis = connect(config(&server).timeout(2 * TIMEOUT)).await;
    let mut expected = vec!["INFO redis is up"];
    assert_eq!(log.lines(), expected);

    // Once so long that a silent connection is given up.
    for pause in [Duration::from_secs(3), Duration::ZERO] {
        server.pause();
        waits(&redis).await;
        eventually(SOON, async || !redis.is_up()).await;
        let start = Instant::now();
        eventually(SOON, async || start.elapsed() > pause).await;
        waits(&redis).await;
        server.resume();
        is_back(&redis).await;
        expected.extend(["WARN redis is down", "INFO redis is up"]);
        assert_eq!(log.lines(), expected);

        server.kill().await;
        eventually(SOON, async || !redis.is_up()).await;
        waits(&redis).await;
        server.restart().await;
        is_back(&redis).await;
        expected.extend(["WARN redis is down", "INFO redis is up"]);
        assert_eq!(log.lines(), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_handle_notices_a_paused_server_by_itself() {
    let server = RedisServer::start().await;
    let redis = open(&server).await;
    server.pause();
    let mut up = redis.watch_up();
    timeout(SOON, up.wait_for(|up| !up)).await.unwrap().unwrap();
    server.resume();
    is_back(&redis).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn long_pause_ends_within_two_seconds_too() {
    let server = RedisServer::start().await;
    let redis = open(&server).await;
    server.pause();
    let start = Instant::now();
    // Past the time after which a silent connection is given up.
    eventually(SOON, async || start.elapsed() > Duration::from_secs(4)).await;
    assert!(!redis.is_up());
    server.resume();
    is_back(&redis).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn command_that_is_cut_off_with_its_connection_may_have_run() {
    let server = RedisServer::start().await;
    let redis = ample(&server).await;
    server.pause();
    // It would wait for longer than the connection is kept.
    let incr = Command::new("INCR").key("count").timeout(SOON);
    let error = redis.command(incr).await.unwrap_err();
    assert!(matches!(error, RedisError::Io { .. }), "{error:?}");
    assert!(error.may_have_run());
    server.resume();
}

#[tokio::test(flavor = "multi_thread")]
async fn handle_opened_before_its_server_connects_later() {
    let server = RedisServer::start().await;
    server.kill().await;
    let redis = Redis::open(config(&server));
    assert!(matches!(redis.ping().await, Err(RedisError::Down)));
    server.restart().await;
    is_back(&redis).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_command_runs_twice_when_its_connection_breaks() {
    let server = RedisServer::start().await;
    let (redis, other) = (patient(&server).await, patient(&server).await);
    for round in 0..20 {
        let push = |n: i64| redis.command(Command::new("RPUSH").key("log").arg(round * 100 + n));
        // Some run and lose their replies with the connection.
        let (replies, _) =
            tokio::join!(join_all((0..100).map(push)), other.command(kill("normal")));
        drop(replies);
        assert!(redis.wait_ready(SOON).await && other.wait_ready(SOON).await);
    }
    // That the last connection broke may not have been noticed yet.
    let range = Command::new("LRANGE").key("log").arg(0).arg(-1);
    let log = eventually(SOON, async || redis.command(range.clone()).await).await;
    let mut log: Vec<_> = log
        .into_array()
        .unwrap()
        .into_iter()
        .map(Reply::into_bytes)
        .collect();
    let len = log.len();
    log.sort_unstable();
    log.dedup();
    assert_eq!(log.len(), len, "each entry is there once");
}
