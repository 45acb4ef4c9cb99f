//! Long values in a real memcached, beside a real Redis.

use std::time::Duration;

use maxscale_cache::codec::{Json, Lz4};
use maxscale_cache::memcached::Memcached;
use maxscale_cache::{CacheSpec, HubBuilder, Invalidated};
use maxscale_tests::{Lateness, MemcachedServer, RedisServer, eventually};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use crate::fleet::{KEY, Member, length, load, member, never_older, number, page};
use crate::program::connect;
use crate::source::LIMIT;

/// Lets a hub keep pages there. It waits for the server as long as it takes.
fn beside(server: &MemcachedServer) -> impl Fn(HubBuilder) -> HubBuilder {
    beside_over(server, 1_000)
}

/// The same for what is longer than `over`.
fn beside_over(server: &MemcachedServer, over: usize) -> impl Fn(HubBuilder) -> HubBuilder {
    let address = server.address().to_owned();
    move |hub| hub.memcached(Memcached::new(&address).over(over).timeout(LIMIT))
}

async fn pair(redis: &RedisServer, memcached: &MemcachedServer) -> [Member; 2] {
    let here = member(redis, Json, beside(memcached)).await;
    [here, member(redis, Json, beside(memcached)).await]
}

/// What somebody else writes under a name.
async fn overwrite(server: &MemcachedServer, name: &str, value: &str) {
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    let set = format!("set {name} 0 60 {}\r\n{value}\r\n", value.len());
    stream.write_all(set.as_bytes()).await.unwrap();
    let mut answer = [0; 8];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"STORED\r\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn long_value_lies_in_memcached_and_all_processes_find_it() {
    let (redis, memcached) = (RedisServer::start().await, MemcachedServer::start().await);
    let handle = connect(&redis.url()).await;
    let [(_, here), (there_hub, there)] = pair(&redis, &memcached).await;
    let before = memcached.stat("curr_items").await;
    load(&here, "k", page(77)).await;
    load(&here, "short", "short".to_owned()).await;

    assert_eq!(memcached.stat("curr_items").await, before + 1);
    assert!(length(&handle, KEY).await < 400);
    let hits = there_hub.stats();
    assert_eq!(number(&there.get("k").await.unwrap()), 77);
    assert_eq!(there_hub.stats().l3_hits, hits.l3_hits + 1);
    assert_eq!(*there.get("short").await.unwrap(), "short");
    assert_eq!(there_hub.stats().l3_hits, hits.l3_hits + 1);
    assert_eq!(there_hub.stats().l3_misses, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn value_that_was_invalidated_is_not_served_though_memcached_has_it() {
    let (redis, memcached) = (RedisServer::start().await, MemcachedServer::start().await);
    let [(_, here), (_, there)] = pair(&redis, &memcached).await;
    load(&here, "k", page(1)).await;
    let items = memcached.stat("curr_items").await;
    assert_eq!(here.invalidate("k").await, Invalidated::Everywhere);
    assert_eq!(there.get("k").await, None);
    assert_eq!(memcached.stat("curr_items").await, items);
    assert_eq!(number(&load(&there, "k", page(2)).await), 2);
    assert_eq!(number(&here.get("k").await.unwrap()), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_bytes_under_the_name_are_a_miss_and_the_next_load_mends_it() {
    let (redis, memcached) = (RedisServer::start().await, MemcachedServer::start().await);
    let [(_, here), (hub, there)] = pair(&redis, &memcached).await;
    load(&here, "k", page(77)).await;
    let json = serde_json::to_vec(&page(77)).unwrap();
    let name = Sha256::digest(json);
    let name: String = name.iter().map(|byte| format!("{byte:02x}")).collect();
    let name = format!("mxc:{name}");
    for wrong in [serde_json::to_string(&page(76)).unwrap(), String::new()] {
        let misses = hub.stats().l3_misses;
        overwrite(&memcached, &name, &wrong).await;
        assert_eq!(there.get("k").await, None);
        assert_eq!(hub.stats().l3_misses, misses + 1);
        assert_eq!(number(&load(&there, "k", page(77)).await), 77);
        assert_eq!(number(&here.get("k").await.unwrap()), 77);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn memcached_that_comes_back_empty_costs_misses() {
    let (redis, memcached) = (RedisServer::start().await, MemcachedServer::start().await);
    let [(_, here), (_, there)] = pair(&redis, &memcached).await;
    load(&here, "k", page(1)).await;
    memcached.restart().await;
    // Its connection is of the server before.
    eventually(LIMIT, async || {
        assert_eq!(number(&load(&here, "k", page(1)).await), 1);
        memcached.stat("curr_items").await == 1 && there.get("k").await.is_some()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_memcached_is_down_or_frozen_l2_has_the_whole_values() {
    let (redis, memcached) = (RedisServer::start().await, MemcachedServer::start().await);
    let handle = connect(&redis.url()).await;
    let set_up = |hub: HubBuilder| {
        let memcached = Memcached::new(memcached.address()).over(1_000);
        hub.memcached(memcached.timeout(Duration::from_millis(100)))
    };
    let (hub, cache) = member(&redis, Json, set_up).await;
    for is_frozen in [false, true] {
        if is_frozen {
            memcached.pause();
        } else {
            memcached.kill().await;
        }
        let (begun, lateness) = (Instant::now(), Lateness::watch());
        for n in 0..200 {
            let id = format!("{is_frozen}-{n}");
            assert_eq!(number(&load(&cache, &id, page(n)).await), n);
            assert_eq!(number(&cache.get(&id).await.unwrap()), n);
        }
        // Three calls wait, then one in each second.
        let bound = Duration::from_secs(10) + lateness.total();
        assert!(begun.elapsed() < bound, "{:?}", begun.elapsed());
        let last = format!("maxscale:page:{is_frozen}-199:1");
        assert!(length(&handle, &last).await > 4_000);

        if is_frozen {
            memcached.resume();
        } else {
            memcached.restart().await;
        }
        let mut n = 0;
        eventually(LIMIT, async || {
            n += 1;
            let id = format!("{is_frozen}-after-{n}");
            let before = hub.stats().l3_hits;
            load(&cache, &id, page(n)).await;
            cache.get(&id).await.is_some() && hub.stats().l3_hits > before
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn packed_value_is_put_away_packed() {
    let (redis, memcached) = (RedisServer::start().await, MemcachedServer::start().await);
    // What it did not take in time, L2 would have for good.
    let set_up = || beside_over(&memcached, 30);
    let codec = || Lz4::new(Json).over(100);
    let (_, here) = member(&redis, codec(), set_up()).await;
    let (hub, there) = member(&redis, codec(), set_up()).await;
    load(&here, "k", page(7)).await;
    let before = hub.stats().l3_hits;
    eventually(LIMIT, async || {
        assert_eq!(number(&load(&there, "k", page(7)).await), 7);
        hub.stats().l3_hits > before
    })
    .await;
    let each = memcached.stat("bytes").await / memcached.stat("curr_items").await;
    assert!(each < 500, "{each}");
}

#[tokio::test(flavor = "multi_thread")]
async fn value_that_is_near_is_confirmed_without_memcached() {
    let (redis, memcached) = (RedisServer::start().await, MemcachedServer::start().await);
    let (hub, _) = member(&redis, Json, beside(&memcached)).await;
    // Near for a moment, and then L2 is asked whether it still is the one.
    let spec = CacheSpec::new("page", 1).l1_ttl(Duration::from_millis(1));
    let cache = hub.cache::<String>(spec);
    load(&cache, "k", page(1)).await;
    let before = hub.stats();
    eventually(LIMIT, async || {
        assert_eq!(number(&cache.get("k").await.unwrap()), 1);
        hub.stats().l2_hits > before.l2_hits + 3
    })
    .await;
    assert_eq!(hub.stats().l3_hits, before.l3_hits);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_old_value_comes_from_memcached() {
    let (redis, memcached) = (RedisServer::start().await, MemcachedServer::start().await);
    let processes = pair(&redis, &memcached).await;
    never_older(processes, |stats| stats.l3_hits > 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_old_value_comes_while_memcached_fails_and_some_do_not_use_it() {
    let redis = RedisServer::start().await;
    let memcached = MemcachedServer::start().await;
    let set_up = |hub: HubBuilder| hub.memcached(Memcached::new(memcached.address()).over(1_000));
    let with = member(&redis, Lz4::new(Json).over(1 << 20), set_up).await;
    let without = member(&redis, Json, |hub| hub).await;
    let faults = async {
        loop {
            memcached.pause();
            sleep(Duration::from_millis(120)).await;
            memcached.resume();
            sleep(Duration::from_millis(120)).await;
            memcached.restart().await;
            sleep(Duration::from_millis(120)).await;
        }
    };
    tokio::select! {
        () = never_older([with, without], |_| true) => {}
        () = faults => {}
    }
}
