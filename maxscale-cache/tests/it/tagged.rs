//! Tags and `clear`: many values dropped at once.

use std::convert::Infallible;
use std::time::Duration;

use maxscale_cache::remote::LocalRemote;
use maxscale_cache::{Cache, CacheSpec, Hub, Invalidated};
use maxscale_tests::eventually;

use crate::far::Faulty;
use crate::held::Held;
use crate::source::{LIMIT, LONG};

async fn read(cache: &Cache<u64>, id: &str, tags: &[&str], now: u64) -> u64 {
    let load = move || async move { Ok::<_, Infallible>(Some(now)) };
    let value = cache.get_or_load_tagged(id, tags, load).await;
    *value.unwrap().unwrap()
}

/// A read of `id` under the tag "red" whose load is under way.
async fn hold(cache: &Cache<u64>, id: &'static str) -> Held {
    let cache = cache.clone();
    let read = |load| async move { cache.get_or_load_tagged(id, &["red"], load).await };
    Held::start(1, read).await
}

#[tokio::test]
async fn tag_drops_all_values_that_have_it_and_no_other() {
    let cache = Hub::builder().build().cache::<u64>(LONG);
    read(&cache, "a", &["red"], 1).await;
    read(&cache, "b", &["red", "blue:{1}"], 1).await;
    read(&cache, "c", &["blue:{1}"], 1).await;
    assert_eq!(cache.invalidate_tag("red").await, Invalidated::Everywhere);
    assert_eq!(cache.get("a").await, None);
    assert_eq!(cache.get("b").await, None);
    assert_eq!(*cache.get("c").await.unwrap(), 1);
    assert_eq!(
        cache.invalidate_tag("blue:{1}").await,
        Invalidated::Everywhere
    );
    assert_eq!(cache.get("c").await, None);
    assert_eq!(read(&cache, "c", &["blue:{1}"], 2).await, 2);
    assert_eq!(*cache.get("c").await.unwrap(), 2);
}

#[tokio::test]
async fn clear_drops_all_of_its_kind_and_no_other() {
    let hub = Hub::builder().build();
    let cache = hub.cache::<u64>(LONG);
    let next = hub.cache::<u64>(CacheSpec::new("number", 2));
    let other = hub.cache::<u64>(CacheSpec::new("other", 1));
    for cache in [&cache, &next, &other] {
        read(cache, "k", &[], 1).await;
    }
    assert_eq!(cache.clear().await, Invalidated::Everywhere);
    assert_eq!(cache.get("k").await, None);
    assert_eq!(next.get("k").await, None, "another version of the kind");
    assert_eq!(*other.get("k").await.unwrap(), 1);
    assert_eq!(read(&cache, "k", &[], 2).await, 2);
    assert_eq!(*cache.get("k").await.unwrap(), 2);
}

#[tokio::test]
async fn tag_dropped_here_is_dropped_in_other_hubs() {
    let far = LocalRemote::default();
    let hub = || Hub::builder().remote(far.clone()).build();
    let (here, there) = (hub().cache::<u64>(LONG), hub().cache::<u64>(LONG));
    read(&here, "k", &["red"], 1).await;
    assert_eq!(*there.get("k").await.unwrap(), 1);
    assert_eq!(here.invalidate_tag("red").await, Invalidated::Everywhere);
    eventually(LIMIT, async || there.get("k").await.is_none()).await;
    // One that never heard of the tag asks L2 for it.
    assert_eq!(hub().cache::<u64>(LONG).get("k").await, None);

    read(&here, "k", &["red"], 2).await;
    assert_eq!(here.clear().await, Invalidated::Everywhere);
    eventually(LIMIT, async || there.get("k").await.is_none()).await;
    assert_eq!(hub().cache::<u64>(LONG).get("k").await, None);
}

#[tokio::test]
async fn load_overtaken_by_its_tag_is_not_kept_and_nobody_joins_it() {
    let far = Faulty::new();
    far.set_deaf();
    let [here, there] = [far.hub().build(), far.hub().build()].map(|hub| hub.cache::<u64>(LONG));
    for (id, dropper) in [("elsewhere", &here), ("here", &there)] {
        let overtaken = hold(&there, id).await;
        assert_eq!(dropper.invalidate_tag("red").await, Invalidated::Everywhere);
        overtaken.end().await;
        let fresh = far.hub().build().cache::<u64>(LONG);
        assert_eq!(fresh.get(id).await, None, "old value in L2");
    }
    // In the process that dropped it, it is gone without a word of L2.
    assert_eq!(there.get("here").await, None);
    assert_eq!(there.get("elsewhere").await, None);

    let older = hold(&here, "k").await;
    assert_eq!(here.invalidate_tag("red").await, Invalidated::Everywhere);
    let newer = tokio::time::timeout(LIMIT, read(&here, "k", &["red"], 2)).await;
    older.end().await;
    assert_eq!(newer.unwrap(), 2);
    assert_eq!(read(&here, "k", &["red"], 3).await, 2);
}

#[tokio::test]
async fn unconfirmed_tag_keeps_its_values_out_of_use() {
    let far = Faulty::new();
    let hub = far.hub().remote_timeout(Duration::from_millis(50)).build();
    let cache = hub.cache::<u64>(LONG);
    read(&cache, "k", &["red"], 1).await;
    far.set_loses_bumps(true);
    assert_eq!(cache.invalidate_tag("red").await, Invalidated::HereOnly);
    assert_eq!(cache.get("k").await, None);
    far.set_loses_bumps(false);
    eventually(LIMIT, async || hub.stats().pending == 0).await;
    assert_eq!(far.hub().build().cache::<u64>(LONG).get("k").await, None);
}

#[tokio::test]
async fn value_with_too_many_tags_is_returned_and_not_kept() {
    let cache = Hub::builder().build().cache::<u64>(LONG);
    let tags: Vec<_> = (0..=Cache::<u64>::MAX_TAGS)
        .map(|n| n.to_string())
        .collect();
    let mut tags: Vec<_> = tags.iter().map(String::as_str).collect();
    assert_eq!(read(&cache, "k", &tags, 1).await, 1);
    assert_eq!(cache.get("k").await, None);
    tags.pop();
    assert_eq!(read(&cache, "k", &tags, 1).await, 1);
    assert_eq!(*cache.get("k").await.unwrap(), 1);
}
