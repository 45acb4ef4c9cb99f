//! Hubs that stand for processes: tokens, turns, versions of a schema.

use std::convert::Infallible;
use std::time::Duration;

use maxscale_cache::remote::{RedisRemote, Remote as _};
use maxscale_cache::{Cache, CacheError, CacheSpec, Hub, Invalidated, Token};
use maxscale_core::redis::{Command, Redis};
use maxscale_tests::{RedisServer, eventually};
use tokio::time::{Instant, sleep, timeout};

use crate::far::Faulty;
use crate::held::Held;
use crate::program::{self, patient};
use crate::source::{BOUND, LIMIT, LONG, Source};

async fn connect(server: &RedisServer) -> Redis {
    program::connect(&server.url()).await
}

async fn hub(server: &RedisServer) -> Hub {
    let hub = patient(connect(server).await).build();
    eventually(LIMIT, async || hub.stats().gaps > 0).await;
    hub
}

/// Returns once what one hub loads is found by another.
async fn share(here: &Cache<u64>, there: &Cache<u64>) {
    let mut n = 0;
    eventually(LIMIT, async || {
        n += 1;
        let id = format!("shared-{n}");
        let load = || async { Ok::<_, Infallible>(Some(1)) };
        here.get_or_load(&id, load).await.unwrap();
        there.get(&id).await.is_some()
    })
    .await;
}

#[tokio::test]
async fn token_shows_the_change_where_the_message_has_not_come() {
    let (far, source) = (Faulty::new(), Source::default());
    far.set_deaf();
    let [here, there] = [far.hub().build(), far.hub().build()].map(|hub| hub.cache::<u64>(LONG));
    source.read(&there, "k").await.unwrap();
    source.set(1);
    let (done, token) = here.invalidate_with_token("k").await;
    assert_eq!(done, Invalidated::Everywhere);
    assert_eq!(
        source.read(&there, "k").await.unwrap(),
        0,
        "it heard nothing"
    );
    let token: Token = token.to_string().parse().unwrap();
    assert_eq!(source.read_since(&there, "k", token).await, 1);
    // It is kept, and does for the next one.
    let loads = source.loads();
    assert_eq!(source.read_since(&there, "k", token).await, 1);
    assert_eq!(source.read(&there, "k").await.unwrap(), 1);
    assert_eq!(source.loads(), loads);
}

#[tokio::test]
async fn token_of_a_change_that_l2_did_not_confirm_always_loads() {
    let (far, source) = (Faulty::new(), Source::default());
    let [here, there] = [far.hub().build(), far.hub().build()].map(|hub| hub.cache::<u64>(LONG));
    source.read(&there, "k").await.unwrap();
    far.set_loses_bumps(true);
    source.set(1);
    let (done, token) = here.invalidate_with_token("k").await;
    assert_eq!(done, Invalidated::HereOnly);
    assert_eq!(source.read_since(&there, "k", token).await, 1);
}

#[tokio::test]
async fn token_of_a_change_in_another_store_loads_though_its_number_is_lower() {
    let source = Source::default();
    let [here, there] = [(); 2].map(|()| Hub::builder().build().cache::<u64>(LONG));
    source.set(1);
    let (done, token) = here.invalidate_with_token("k").await;
    assert_eq!(done, Invalidated::Everywhere);
    for id in ["a", "b", "c", "d"] {
        let _ = there.invalidate(id).await;
    }
    source.set(0);
    source.read(&there, "k").await.unwrap();
    source.set(1);
    assert_eq!(
        source.read(&there, "k").await.unwrap(),
        0,
        "it heard nothing"
    );
    assert_eq!(source.read_since(&there, "k", token).await, 1);
}

#[tokio::test]
async fn caller_with_a_token_joins_no_load_from_before_the_change() {
    let cache = Hub::builder().build().cache::<u64>(LONG);
    let (_, token) = cache.invalidate_with_token("other").await;
    let reader = cache.clone();
    let read = |load| async move { reader.get_or_load("k", load).await };
    let older = Held::start(1, read).await;
    let load = || async { Ok::<_, Infallible>(Some(2)) };
    let newer = timeout(LIMIT, cache.get_min_version("k", token, load)).await;
    older.end().await;
    assert_eq!(*newer.unwrap().unwrap().unwrap(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn misses_in_several_processes_make_one_load() {
    let server = RedisServer::start().await;
    let mut caches = Vec::new();
    for _ in 0..4 {
        caches.push(hub(&server).await.cache::<u64>(LONG));
    }
    for cache in &caches[1..] {
        share(&caches[0], cache).await;
        share(cache, &caches[0]).await;
    }
    let source = Source::default();
    source.set(3);
    let reads = (0..2_000).map(|n| {
        let (cache, source) = (caches[n % 4].clone(), source.clone());
        tokio::spawn(async move { source.read_slowly(&cache, "hot").await })
    });
    for value in futures_util::future::join_all(reads).await {
        assert_eq!(value.unwrap(), 3);
    }
    assert_eq!(source.loads(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn process_that_died_keeps_others_from_loading_for_its_lease_only() {
    let server = RedisServer::start().await;
    let hub = hub(&server).await;
    let cache = hub.cache::<u64>(LONG);
    let source = Source::default();
    source.read(&cache, "warm").await.unwrap();
    let dead = RedisRemote::new(connect(&server).await);
    let lease = Duration::from_millis(300);
    let key = "maxscale:number:k:1";
    let start = Instant::now();
    let claimed = dead.claim(key, 99, lease, LIMIT).await.unwrap();
    assert!(claimed.wait.is_zero());
    assert_eq!(
        timeout(LIMIT, source.read(&cache, "k"))
            .await
            .unwrap()
            .unwrap(),
        0
    );
    assert_eq!(source.loads(), 2);
    assert!(start.elapsed() >= lease, "it was not waited for");
    let fence = dead.read(key).await.unwrap().unwrap().fence;
    assert_eq!(fence, claimed.found.fence);
    assert_eq!(*cache.get("k").await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn load_that_fails_lets_another_process_load_at_once() {
    let server = RedisServer::start().await;
    let (here, there) = (hub(&server).await, hub(&server).await);
    let [here, there] = [here, there].map(|hub| hub.cache::<u64>(LONG));
    share(&here, &there).await;
    share(&there, &here).await;
    let failed = here.get_or_load("k", || async { Err("broken") }).await;
    assert!(matches!(failed, Err(CacheError::Load(_))));
    let absent = here.get_or_load("k", || async { Ok::<_, Infallible>(None) });
    assert_eq!(absent.await.unwrap(), None);
    let remote = RedisRemote::new(connect(&server).await);
    let claim = remote.claim("maxscale:number:k:1", 99, LIMIT, LIMIT).await;
    assert!(claim.unwrap().wait.is_zero());
}

#[tokio::test(flavor = "multi_thread")]
async fn invalidation_reaches_the_versions_of_other_processes() {
    let server = RedisServer::start().await;
    let (old, new, third) = (hub(&server).await, hub(&server).await, hub(&server).await);
    let next = CacheSpec::new("number", 2).l1_ttl(Duration::from_secs(600));
    let old = old.cache::<u64>(LONG);
    let [new, third] = [new, third].map(|hub| hub.cache::<u64>(next));
    share(&new, &third).await;
    let source = Source::default();
    source.read(&new, "k").await.unwrap();
    source.set(1);
    assert_eq!(old.invalidate("k").await, Invalidated::Everywhere);
    // It never had the value in L1, so that this is L2's answer.
    assert_eq!(third.get("k").await, None);
    eventually(LIMIT, async || source.read(&new, "k").await.unwrap() == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn invalidation_reaches_versions_whose_processes_are_gone() {
    let server = RedisServer::start().await;
    let next = CacheSpec::new("number", 2).l1_ttl(Duration::from_secs(600));
    let source = Source::default();
    let gone = hub(&server).await;
    source.read(&gone.cache(next), "k").await.unwrap();
    drop(gone);
    let old = hub(&server).await.cache::<u64>(LONG);
    assert_eq!(old.invalidate("k").await, Invalidated::Everywhere);
    assert_eq!(hub(&server).await.cache::<u64>(next).get("k").await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn values_from_before_a_restart_of_redis_are_not_used() {
    let server = RedisServer::start().await;
    let (redis, cache) = (
        connect(&server).await,
        hub(&server).await.cache::<u64>(LONG),
    );
    let source = Source::default();
    source.read(&cache, "k").await.unwrap();
    server.restart().await;
    let exists = Command::new("EXISTS").key("maxscale:number:k:1");
    let there = eventually(LIMIT, async || redis.command(exists.clone()).await).await;
    assert_eq!(there.as_int(), Some(1), "Redis has it still");
    source.set(1);
    let other = hub(&server).await.cache::<u64>(LONG);
    assert_eq!(source.read(&other, "k").await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn emptied_redis_makes_l1_ask_again() {
    let server = RedisServer::start().await;
    let hub = hub(&server).await;
    let cache = hub.cache::<u64>(LONG);
    let (source, redis) = (Source::default(), connect(&server).await);
    source.read(&cache, "k").await.unwrap();
    source.set(1);
    redis.command(Command::new("FLUSHALL")).await.unwrap();
    eventually(LIMIT, async || source.read(&cache, "k").await.unwrap() == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn evicted_tag_drops_its_values() {
    let server = RedisServer::start().await;
    let cache = hub(&server).await.cache::<u64>(LONG);
    let load = || async { Ok::<_, Infallible>(Some(1)) };
    cache.get_or_load_tagged("k", &["red"], load).await.unwrap();
    let other = hub(&server).await.cache::<u64>(LONG);
    let redis = connect(&server).await;
    let del = Command::new("DEL").key("maxscale:!tag:number:red");
    assert_eq!(redis.command(del).await.unwrap().as_int(), Some(1));
    assert_eq!(other.get("k").await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn message_lost_with_its_connection_is_made_up_for_without_later_ones() {
    let server = RedisServer::start().await;
    let (here, there) = (hub(&server).await, hub(&server).await);
    let [here, there] = [here, there].map(|hub| hub.cache::<u64>(LONG));
    let (source, redis) = (Source::default(), connect(&server).await);
    for value in 1..=10 {
        source.read(&there, "k").await.unwrap();
        source.set(value);
        let kill = Command::new("CLIENT").args(["KILL", "TYPE", "pubsub"]);
        let (killed, done) = tokio::join!(redis.command(kill), here.invalidate("k"));
        killed.unwrap();
        assert_eq!(done, Invalidated::Everywhere);
        eventually(LIMIT, async || {
            source.read(&there, "k").await.unwrap() == value
        })
        .await;
    }
    // What was in L1 all the while, and nobody asked for.
    source.read(&there, "unasked").await.unwrap();
    source.set(11);
    let kill = Command::new("CLIENT").args(["KILL", "TYPE", "pubsub"]);
    let list = Command::new("CLIENT").args(["LIST", "TYPE", "pubsub"]);
    eventually(LIMIT, async || {
        let list = redis.command(list.clone()).await.unwrap().into_bytes();
        // Both hubs listen.
        list.unwrap().iter().filter(|byte| **byte == b'\n').count() == 2
    })
    .await;
    assert_eq!(redis.command(kill).await.unwrap().as_int(), Some(2));
    let done = here.invalidate("unasked").await;
    assert_eq!(done, Invalidated::Everywhere);
    sleep(BOUND).await;
    assert_eq!(source.read(&there, "unasked").await.unwrap(), 11);
}
