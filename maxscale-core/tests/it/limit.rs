use std::num::NonZeroU32;
use std::time::Duration;

use futures_util::future::join_all;
use maxscale_core::clock::Clock;
use maxscale_core::keys::{KeyRing, Secret};
use maxscale_core::limit::{Limits, LocalLimits, Policy, Quota, RedisLimits, conformance};
use maxscale_core::redis::{Command, Redis, Reply};
use maxscale_tests::{RedisCluster, RedisServer, eventually};
use tokio::time::Instant;

use crate::redis::log::Log;
use crate::redis::{SOON, TIMEOUT, cluster_config, connect, open};

async fn shared(server: &RedisServer) -> RedisLimits {
    through(open(server).await)
}

fn through(redis: Redis) -> RedisLimits {
    let ring = KeyRing::new(1, Secret::new([7; 32])).unwrap();
    RedisLimits::new(redis, "test:", ring)
}

fn ten_an_hour() -> Policy {
    let ten = NonZeroU32::new(10).unwrap();
    let quota = Quota::new(ten, Duration::from_secs(3_600)).unwrap();
    Policy::new("test", quota.burst(ten).unwrap()).unwrap()
}

/// Checks `n` times at once; how many were allowed.
async fn allowed(limits: &Limits, key: &str, n: usize) -> usize {
    let policy = ten_an_hour();
    let decisions = join_all((0..n).map(|_| limits.check(&policy, key))).await;
    decisions.iter().filter(|d| d.is_allowed()).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn local_limits_keep_every_promise() {
    let limits = LocalLimits::new(Clock::system());
    conformance::check(&limits, &limits.clone()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_limits_keep_every_promise() {
    let server = RedisServer::start().await;
    conformance::check(&shared(&server).await, &shared(&server).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_limits_keep_every_promise_on_a_cluster() {
    let cluster = RedisCluster::start().await;
    let limits = async || through(connect(cluster_config(&cluster)).await);
    conformance::check(&limits().await, &limits().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_with_redis_keep_every_promise() {
    let server = RedisServer::start().await;
    let limits = async || Limits::shared(shared(&server).await, LocalLimits::new(Clock::system()));
    conformance::check(&limits().await, &limits().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_redis_is_down_each_process_limits_alone_and_then_they_share_again() {
    let server = RedisServer::start().await;
    let local = || LocalLimits::new(Clock::system());
    let (here, there) = (
        Limits::shared(shared(&server).await, local()),
        Limits::shared(shared(&server).await, local()),
    );
    assert_eq!(allowed(&here, "a", 20).await, 10);
    assert_eq!(allowed(&there, "a", 20).await, 0);

    server.kill().await;
    assert_eq!(allowed(&here, "a", 20).await, 10);
    assert_eq!(allowed(&there, "a", 20).await, 10);

    server.restart_empty().await;
    let mut round = 0;
    eventually(SOON, async || {
        round += 1;
        let key = format!("after {round}");
        allowed(&here, &key, 20).await + allowed(&there, &key, 20).await == 10
    })
    .await;
}

/// On one thread, so that the log is this test's.
#[tokio::test]
async fn log_tells_once_of_a_redis_that_counts_some_keys_and_others_not() {
    let log = Log::default();
    let _log = tracing::subscriber::set_default(log.clone());
    let server = RedisServer::start().await;
    let redis = open(&server).await;
    let limits = Limits::shared(through(redis.clone()), LocalLimits::new(Clock::system()));
    assert_eq!(allowed(&limits, "bad", 1).await, 1);
    let keys = redis.command(Command::new("KEYS").arg("*")).await.unwrap();
    let [Reply::Bytes(bad)] = &keys.into_array().unwrap()[..] else {
        panic!("one key");
    };
    redis
        .command(Command::new("DEL").key(bad.clone()))
        .await
        .unwrap();
    let other = Command::new("HSET").key(bad.clone()).args(["a", "b"]);
    redis.command(other).await.unwrap();

    let told = log.lines().len();
    for _ in 0..20 {
        allowed(&limits, "bad", 1).await;
        allowed(&limits, "good", 1).await;
    }
    let told = log.lines().split_off(told);
    assert_eq!(told.len(), 1, "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn paused_redis_delays_no_check_beyond_twice_the_timeout() {
    let server = RedisServer::start().await;
    let limits = Limits::shared(shared(&server).await, LocalLimits::new(Clock::system()));
    server.pause();
    let start = Instant::now();
    assert_eq!(allowed(&limits, "a", 64).await, 10);
    assert!(start.elapsed() < 3 * TIMEOUT, "{:?}", start.elapsed());
    server.resume();
}
