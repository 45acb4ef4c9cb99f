//! Processes that write values down in unlike ways and share one L2.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use maxscale_cache::codec::{Codec, CodecError, Json, Lz4};
use maxscale_cache::remote::{LocalRemote, RedisRemote, Remote as _};
use maxscale_cache::{Cache, CacheSpec, Hub, Invalidated, Stats};
use maxscale_core::redis::{Command, Redis};
use maxscale_tests::{RedisServer, eventually};

use crate::program::{connect, patient, wait_until_in_use};
use crate::source::LIMIT;

/// All reads are answered by L2 or a load.
const FAR: CacheSpec = CacheSpec::new("page", 1).l1_ttl(Duration::ZERO);
const KEY: &str = "maxscale:page:k:1";

/// The text itself, which JSON would not read.
struct Plain;

impl Codec<String> for Plain {
    fn name(&self) -> &'static str {
        "plain"
    }

    fn encode(&self, value: &String) -> Result<Vec<u8>, CodecError> {
        Ok(value.clone().into_bytes())
    }

    fn decode(&self, encoded: &[u8]) -> Result<String, CodecError> {
        String::from_utf8(encoded.to_vec()).map_err(|error| CodecError::Decode(error.into()))
    }
}

/// A codec of no value.
struct Broken;

impl Codec<String> for Broken {
    fn name(&self) -> &'static str {
        "plain"
    }

    fn encode(&self, _: &String) -> Result<Vec<u8>, CodecError> {
        Err(CodecError::Encode("broken".into()))
    }

    fn decode(&self, _: &[u8]) -> Result<String, CodecError> {
        Err(CodecError::Decode("broken".into()))
    }
}

/// A long text that tells a number.
fn page(number: u64) -> String {
    format!("{number:>4000}")
}

fn number(page: &str) -> u64 {
    page.trim().parse().unwrap()
}

async fn load(cache: &Cache<String>, id: &str, value: String) -> Arc<String> {
    let load = || async { Ok::<_, Infallible>(Some(value)) };
    cache.get_or_load(id, load).await.unwrap().unwrap()
}

async fn hub(server: &RedisServer) -> Hub {
    let hub = patient(connect(&server.url()).await).build();
    wait_until_in_use(&hub).await;
    hub
}

/// Hubs of two processes, each with a cache of its own codec that L2 is used for.
async fn pair(
    server: &RedisServer,
    here: impl Codec<String>,
    there: impl Codec<String>,
) -> [(Hub, Cache<String>); 2] {
    let (one, other) = (hub(server).await, hub(server).await);
    let here = (one.clone(), one.cache_with(FAR, here));
    let there = (other.clone(), other.cache_with(FAR, there));
    for (_, cache) in [&here, &there] {
        let mut n = 0;
        eventually(LIMIT, async || {
            n += 1;
            let id = format!("warm-{n}-{:p}", cache);
            load(cache, &id, page(n)).await;
            cache.get(&id).await.is_some()
        })
        .await;
    }
    [here, there]
}

async fn length(redis: &Redis, key: &str) -> i64 {
    let length = Command::new("STRLEN").key(key);
    redis.command(length).await.unwrap().as_int().unwrap()
}

#[tokio::test]
async fn value_of_a_codec_of_ones_own_is_shared_by_l2() {
    let remote = LocalRemote::default();
    let hubs = [(); 2].map(|()| Hub::builder().remote(remote.clone()).build());
    let [here, there] = hubs.each_ref().map(|hub| hub.cache_with(FAR, Plain));
    load(&here, "k", page(1)).await;
    assert_eq!(number(&there.get("k").await.unwrap()), 1);
}

#[tokio::test]
async fn value_without_an_encoded_form_is_served_and_not_kept() {
    let hub = Hub::builder().build();
    let cache = hub.cache_with(CacheSpec::new("page", 1), Broken);
    assert_eq!(number(&load(&cache, "k", page(1)).await), 1);
    assert_eq!(cache.get("k").await, None);
    assert_eq!(hub.stats().rejected_by_size, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn process_that_packs_and_one_that_does_not_share_values() {
    let server = RedisServer::start().await;
    let redis = connect(&server.url()).await;
    let [(_, packs), (hub, does_not)] = pair(&server, Lz4::new(Json), Json).await;

    load(&packs, "k", page(1)).await;
    assert!(length(&redis, KEY).await < 500);
    assert_eq!(number(&does_not.get("k").await.unwrap()), 1);

    assert_eq!(does_not.invalidate("k").await, Invalidated::Everywhere);
    load(&does_not, "k", page(2)).await;
    assert!(length(&redis, KEY).await > 4_000);
    assert_eq!(number(&packs.get("k").await.unwrap()), 2);
    let unread = hub.stats();
    assert_eq!((unread.unread_by_form, unread.unread_by_damage), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_codec_wrote_is_a_miss_and_counted() {
    let server = RedisServer::start().await;
    let [(old_hub, old), (new_hub, new)] = pair(&server, Json, Plain).await;
    load(&old, "k", page(1)).await;
    assert_eq!(new.get("k").await, None);
    assert_eq!(number(&load(&new, "k", page(2)).await), 2);
    assert_eq!(old.get("k").await, None);
    for hub in [&old_hub, &new_hub] {
        let Stats { unread_by_form, .. } = hub.stats();
        assert!(unread_by_form > 0);
    }
    // Bytes of the right name that are no value.
    let broken = old_hub.cache_with(FAR, Broken);
    assert_eq!(broken.get("k").await, None);
    assert_eq!(old_hub.stats().unread_by_value, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn packing_in_one_process_only_brings_no_old_value_and_no_error() {
    let server = RedisServer::start().await;
    never_older(pair(&server, Lz4::new(Json), Json).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_codecs_at_once_bring_no_old_value_and_no_error() {
    let server = RedisServer::start().await;
    never_older(pair(&server, Lz4::new(Json), Lz4::new(Plain)).await).await;
}

/// Reads in both processes, while each in turn invalidates: none that begins
/// after an invalidation was confirmed returns an older value.
async fn never_older(processes: [(Hub, Cache<String>); 2]) {
    let truth = Arc::new(AtomicU64::new(0));
    let known = Arc::new(AtomicU64::new(0));
    let done = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..4)
        .map(|n| {
            let cache = processes[n % 2].1.clone();
            let (truth, known, done) = (truth.clone(), known.clone(), done.clone());
            tokio::spawn(async move {
                let mut reads = 0_u32;
                while !done.load(Ordering::SeqCst) {
                    let at_least = known.load(Ordering::SeqCst);
                    let truth = truth.clone();
                    let load = move || async move {
                        let value = truth.load(Ordering::SeqCst);
                        // Time for a drop to come between reading and keeping.
                        tokio::task::yield_now().await;
                        Ok::<_, Infallible>(Some(page(value)))
                    };
                    let found = cache.get_or_load("raced", load).await.unwrap();
                    let found = number(&found.unwrap());
                    assert!(found >= at_least, "{found} after {at_least}");
                    reads += 1;
                }
                reads
            })
        })
        .collect();
    let met = || {
        let hubs = processes.iter().map(|(hub, _)| hub.stats());
        hubs.map(|stats| stats.rejected_by_fence).min() > Some(0)
    };
    for value in 1..=50_000 {
        if value > 500 && met() {
            break;
        }
        truth.store(value, Ordering::SeqCst);
        let (_, cache) = &processes[usize::from(value % 2 == 0)];
        assert_eq!(cache.invalidate("raced").await, Invalidated::Everywhere);
        known.store(value, Ordering::SeqCst);
    }
    done.store(true, Ordering::SeqCst);
    for reader in readers {
        assert!(reader.await.unwrap() > 0);
    }
    assert!(met(), "loads and drops did not meet");
    for (hub, _) in processes {
        let stats = hub.stats();
        assert!(stats.l2_hits > 0, "{stats:?}");
        assert_eq!((stats.unread_by_damage, stats.unread_by_value), (0, 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_to_what_is_packed_is_a_miss_and_counted() {
    let server = RedisServer::start().await;
    let [(hub, cache), _] = pair(&server, Lz4::new(Json), Json).await;
    let remote = RedisRemote::new(connect(&server.url()).await);
    load(&cache, "k", page(1)).await;
    let found = remote.read(KEY).await.unwrap().unwrap();
    let sealed = found.value.unwrap();
    let replace = async |bytes: Vec<u8>| {
        let fill = remote.fill(KEY, found.fence, 0, bytes.into(), LIMIT);
        assert!(fill.await.unwrap());
        assert_eq!(cache.get("k").await, None);
    };
    for at in 0..sealed.len() {
        let mut bytes = sealed.to_vec();
        bytes[at] ^= 0x10;
        replace(bytes).await;
    }
    for length in 1..sealed.len() {
        replace(sealed[..length].to_vec()).await;
    }
    let stats = hub.stats();
    let bad = u64::try_from(sealed.len() * 2 - 1).unwrap();
    assert_eq!(stats.unread_by_form + stats.unread_by_damage, bad);
    assert_eq!(stats.unread_by_form, 4 + 3, "of the mark");
    assert_eq!(number(&load(&cache, "k", page(2)).await), 2);
}
