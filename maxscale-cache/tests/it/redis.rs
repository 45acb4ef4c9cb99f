//! A real Redis: shared by hubs, killed, frozen, and back with and without its data.

use std::future::Future;
use std::time::Duration;

use maxscale_cache::conformance;
use maxscale_cache::remote::{RedisRemote, Remote as _};
use maxscale_cache::{Hub, HubBuilder, Invalidated, L1Engine};
use maxscale_core::redis::{Command, Redis, RedisConfig, Reply};
use maxscale_tests::{Lateness, RedisCluster, RedisServer, eventually};
use tokio::time::{Instant, timeout};

use crate::program::{self, patient};
use crate::source::{LIMIT, LONG, Source, race};

const PREFIX: &str = "app:test";

async fn connect(server: &RedisServer) -> Redis {
    program::connect(&server.url()).await
}

/// A hub that hears what others invalidate from now on, and waits for Redis as long as
/// it takes.
async fn hub(server: &RedisServer) -> Hub {
    listening(patient(connect(server).await)).await
}

/// The same, but one that answers soon though Redis does not.
async fn hasty(server: &RedisServer) -> Hub {
    let redis = Redis::open(RedisConfig::new(&server.url()).unwrap());
    assert!(redis.wait_ready(LIMIT).await);
    listening(Hub::builder().remote(RedisRemote::new(redis))).await
}

async fn listening(hub: HubBuilder) -> Hub {
    let hub = hub.prefix(PREFIX).build();
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
    let redis = program::connect(url).await;
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
        let hub = patient(connect(&server).await).l1_engine(engine);
        race(&hub.build()).await;
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
        quickly(eventually(LIMIT, async || {
            source.read(&there, "k").await.unwrap() == value
        }))
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_redis_slows_nothing_and_forgets_no_invalidation() {
    let server = RedisServer::start().await;
    let (here_hub, there_hub) = (hasty(&server).await, hasty(&server).await);
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
    let (here_hub, there_hub) = (hasty(&server).await, hasty(&server).await);
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
    for value in 1..=20 {
        source.set(value);
        assert_eq!(quickly(here.invalidate("k")).await, Invalidated::HereOnly);
        for id in ["k", &format!("unseen-{value}")] {
            assert_eq!(quickly(source.read(here, id)).await.unwrap(), value);
        }
    }
}

/// What `call` returns, in a second at most of a machine that has time for it.
async fn quickly<T>(call: impl Future<Output = T>) -> T {
    let (since, lateness) = (Instant::now(), Lateness::watch());
    let done = timeout(LIMIT, call).await.unwrap();
    let bound = Duration::from_secs(1) + lateness.total();
    assert!(since.elapsed() < bound, "{:?}", since.elapsed());
    done
}

async fn recovery(here: &Hub, there: &maxscale_cache::Cache<u64>, source: &Source) {
    eventually(LIMIT, async || here.stats().pending == 0).await;
    eventually(LIMIT, async || source.read(there, "k").await.unwrap() == 20).await;
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
