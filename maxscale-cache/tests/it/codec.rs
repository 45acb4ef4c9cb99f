//! Processes that write values down in unlike ways and share one L2.

use maxscale_cache::codec::{Codec, CodecError, Json, Lz4};
use maxscale_cache::remote::{LocalRemote, RedisRemote, Remote as _};
use maxscale_cache::{CacheSpec, Hub, Invalidated, Stats};
use maxscale_tests::RedisServer;

use crate::fleet::{FAR, KEY, Member, length, load, member, never_older, number, page};
use crate::program::connect;
use crate::source::LIMIT;

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

/// Two processes with a codec each.
async fn pair(
    server: &RedisServer,
    here: impl Codec<String>,
    there: impl Codec<String>,
) -> [Member; 2] {
    let here = member(server, here, |hub| hub).await;
    [here, member(server, there, |hub| hub).await]
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
    never_older(pair(&server, Lz4::new(Json), Json).await, |_| true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_codecs_at_once_bring_no_old_value_and_no_error() {
    let server = RedisServer::start().await;
    never_older(pair(&server, Lz4::new(Json), Lz4::new(Plain)).await, |_| {
        true
    })
    .await;
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
