//! A real Redis: shared by hubs, killed, frozen, and back with and without its data.

use std::time::Duration;

use maxscale_cache::conformance;
use maxscale_cache::remote::{RedisRemote, Remote as _};
use maxscale_cache::{Hub, Invalidated, L1Engine};
use maxscale_core::redis::{Command, Redis, RedisConfig, Reply};
use maxscale_tests::{RedisCluster, RedisServer, eventually};
use tokio::time::{Instant, timeout};

use crate::source::{LIMIT, LONG, Source, race};

const PREFIX: &str = "app:test";

async fn connect(server: &RedisServer) -> Redis {
    let redis = Redis::open(RedisConfig::new(&server.url()).unwrap());
    assert!(redis.wait_ready(LIMIT).await);
    redis
}

/// A hub that hears what others invalidate from now on.
async fn hub(server: &RedisServer) -> Hub {
    let redis = connect(server).await;
    let hub = Hub::builder()
        .prefix(PREFIX)
        .remote(RedisRemote::new(redis))
        .build();
    // Listening begins with what counts as a gap.
    eventually(LIMIT, async || hub.stats().gaps > 0).await;
    hub
}

async fn command(redis: &Redis, name: &'static str, args: &[&str]) -> Reply {
    let command = Command::new(name).args(args.iter().copied());
    redis.command(command).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_remote_keeps_every_promise() {
    let server = RedisServer::start().await;
    keeps_every_promise(&server.url()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_remote_keeps_every_promise_on_a_cluster() {
    let cluster = RedisCluster::start().await;
    let url = cluster.urls()[0].replace("redis://", "redis-cluster://");
    keeps_every_promise(&url).await;
}

async fn keeps_every_promise(url: &str) {
    // The claim is not about speed, so a busy machine may take its time.
    let config = RedisConfig::new(url).unwrap().timeout(LIMIT);
    let redis = Redis::open(config);
    assert!(redis.wait_ready(LIMIT).await);
    conformance::check(RedisRemote::new(redis), PREFIX).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn value_may_be_kept_for_longer_than_the_server_can_count() {
    let server = RedisServer::start().await;
    let remote = RedisRemote::new(connect(&server).await);
    let claimed = remote.claim("k", 0, LIMIT, LIMIT).await.unwrap();
    let fence = claimed.found.fence;
    let filled = remote.fill("k", fence, 0, "v".into(), Duration::MAX).await;
    assert!(filled.unwrap());
    let found = remote.read("k").await.unwrap().unwrap();
    assert_eq!(found.value, Some("v".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_read_after_an_invalidation_returns_an_older_value() {
    let server = RedisServer::start().await;
    for engine in [L1Engine::Moka, L1Engine::Quick] {
        let remote = RedisRemote::new(connect(&server).await);
        let hub = Hub::builder().l1_engine(engine).remote(remote).build();
        race(&hub).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn other_process_sees_an_update_long_before_l1_ends() {
    let server = RedisServer::start().await;
    let (here, there) = (hub(&server).await, hub(&server).await);
    let [here, there] = [here, there].map(|hub| hub.cache::<u64>(LONG));
    let source = Source::default();
    for value in 1..=100 {
        source.read(&there, "k").await.unwrap();
        source.set(value);
        assert_eq!(here.invalidate("k").await, Invalidated::Everywhere);
        eventually(Duration::from_secs(1), async || {
            source.read(&there, "k").await.unwrap() == value
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_redis_slows_nothing_and_forgets_no_invalidation() {
    let server = RedisServer::start().await;
    let (here_hub, there_hub) = (hub(&server).await, hub(&server).await);
    let [here, there] = [&here_hub, &there_hub].map(|hub| hub.cache::<u64>(LONG));
    let source = Source::default();
    source.read(&here, "k").await.unwrap();
    source.read(&there, "k").await.unwrap();

    server.kill().await;
    outage(&here, &source).await;
    // The server's data is as it was before: the old value is in it.
    server.restart().await;
    recovery(&here_hub, &there, &source).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn frozen_redis_slows_nothing_much_and_forgets_no_invalidation() {
    let server = RedisServer::start().await;
    let (here_hub, there_hub) = (hub(&server).await, hub(&server).await);
    let [here, there] = [&here_hub, &there_hub].map(|hub| hub.cache::<u64>(LONG));
    let source = Source::default();
    source.read(&here, "k").await.unwrap();
    source.read(&there, "k").await.unwrap();

    server.pause();
    outage(&here, &source).await;
    server.resume();
    recovery(&here_hub, &there, &source).await;
}

/// Updates, invalidations and reads while Redis does not answer.
async fn outage(here: &maxscale_cache::Cache<u64>, source: &Source) {
    let quick = Duration::from_secs(1);
    for value in 1..=20 {
        source.set(value);
        let done = timeout(quick, here.invalidate("k")).await.unwrap();
        assert_eq!(done, Invalidated::HereOnly);
        for id in ["k", &format!("unseen-{value}")] {
            let since = Instant::now();
            assert_eq!(source.read(here, id).await.unwrap(), value);
            assert!(since.elapsed() < quick, "{:?}", since.elapsed());
        }
    }
}

async fn recovery(here: &Hub, there: &maxscale_cache::Cache<u64>, source: &Source) {
    eventually(LIMIT, async || here.stats().pending == 0).await;
    eventually(Duration::from_secs(5), async || {
        source.read(there, "k").await.unwrap() == 20
    })
    .await;
    // L2 is in use again: what one hub loads is a hit for the other.
    eventually(LIMIT, async || {
        let before = here.stats().l2_hits;
        let id = format!("after-{:?}", Instant::now());
        source.read(there, &id).await.unwrap();
        source.read(&here.cache(LONG), &id).await.unwrap();
        here.stats().l2_hits > before
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_that_comes_back_empty_is_filled_again() {
    let server = RedisServer::start().await;
    let hub = hub(&server).await;
    let cache = hub.cache::<u64>(LONG.l1_ttl(Duration::ZERO));
    let source = Source::default();
    source.set(1);
    source.read(&cache, "k").await.unwrap();
    server.restart_empty().await;

    eventually(LIMIT, async || {
        assert_eq!(source.read(&cache, "k").await.unwrap(), 1);
        cache.get("k").await.is_some()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_key_in_redis_has_the_agreed_name_and_a_ttl() {
    let server = RedisServer::start().await;
    let (redis, cache) = (
        connect(&server).await,
        hub(&server).await.cache::<u64>(LONG),
    );
    let source = Source::default();
    source.read(&cache, "filled").await.unwrap();
    source.read(&cache, "missed:{1}").await.unwrap();
    let _ = cache.invalidate("dropped").await;

    let keys = command(&redis, "KEYS", &["*"]).await.into_array().unwrap();
    let mut names = Vec::new();
    for key in keys {
        let name = String::from_utf8(key.into_bytes().unwrap().into()).unwrap();
        let ttl = command(&redis, "PTTL", &[&name]).await.as_int().unwrap();
        assert!(ttl > 0, "{name} has no TTL");
        names.push(name);
    }
    names.sort();
    assert_eq!(
        names,
        [
            "app:test:!all:number",
            "app:test:number:dropped:1",
            "app:test:number:filled:1",
            "app:test:number:missed%3A%7B1%7D:1",
            "{app:test:!board}",
            "{app:test:!board}:processes",
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_and_foreign_values_in_redis_are_misses() {
    let server = RedisServer::start().await;
    let (redis, hub) = (connect(&server).await, hub(&server).await);
    let cache = hub.cache::<u64>(LONG.l1_ttl(Duration::ZERO));
    let source = Source::default();
    source.set(5);
    source.read(&cache, "a").await.unwrap();
    let (a, b) = ("app:test:number:a:1", "app:test:number:b:1");

    // The value of another key, copied byte by byte.
    command(&redis, "COPY", &[a, b]).await;
    assert_eq!(cache.get("b").await, None);

    let sealed = command(&redis, "GET", &[a]).await.into_bytes();
    let mut damaged = sealed.unwrap().to_vec();
    *damaged.last_mut().unwrap() ^= 1;
    let damage = Command::new("SET").key(a).arg(damaged);
    redis.command(damage).await.unwrap();
    assert_eq!(cache.get("a").await, None);
    assert_eq!(source.read(&cache, "a").await.unwrap(), 5);
    assert_eq!(*cache.get("a").await.unwrap(), 5);

    // A key of another type.
    command(&redis, "DEL", &[b]).await;
    command(&redis, "HSET", &[b, "field", "text"]).await;
    assert_eq!(source.read(&cache, "b").await.unwrap(), 5);
    assert_eq!(cache.invalidate("b").await, Invalidated::Everywhere);
    assert_eq!(source.read(&cache, "b").await.unwrap(), 5);
    assert_eq!(*cache.get("b").await.unwrap(), 5);
}
