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

/// A cache whose values are tagged with the tens in them.
fn by_tens(hub: &Hub) -> Cache<u64> {
    let tens = |value: &u64| vec![format!("tens {}", value / 10)];
    hub.cache::<u64>(LONG).tagged_by(tens)
}

#[tokio::test]
async fn value_falls_with_the_tags_that_it_names_itself_in_all_hubs() {
    let far = LocalRemote::default();
    let hub = || Hub::builder().remote(far.clone()).build();
    let (here, there) = (by_tens(&hub()), by_tens(&hub()));
    for (id, value) in [("a", 10), ("b", 11), ("c", 20)] {
        read(&here, id, &["all"], value).await;
        assert_eq!(*there.get(id).await.unwrap(), value);
    }
    assert_eq!(here.invalidate_tag("tens 1").await, Invalidated::Everywhere);
    eventually(LIMIT, async || there.get("a").await.is_none()).await;
    for cache in [&here, &there, &by_tens(&hub())] {
        assert_eq!(cache.get("a").await, None);
        assert_eq!(cache.get("b").await, None);
        assert_eq!(*cache.get("c").await.unwrap(), 20);
    }
    // The tags that its caller gave it has too.
    assert_eq!(there.invalidate_tag("all").await, Invalidated::Everywhere);
    assert_eq!(by_tens(&hub()).get("c").await, None);
    // What the caller knows has its tags, and the next load too.
    assert_eq!(here.put("c", 21).await, Invalidated::Everywhere);
    assert_eq!(*by_tens(&hub()).get("c").await.unwrap(), 21);
    assert_eq!(here.invalidate_tag("tens 2").await, Invalidated::Everywhere);
    assert_eq!(by_tens(&hub()).get("c").await, None);
}

#[tokio::test]
async fn load_overtaken_by_a_tag_that_its_value_names_is_not_kept() {
    let far = Faulty::new();
    far.set_deaf();
    let [here, there] = [far.hub().build(), far.hub().build()].map(|hub| by_tens(&hub));
    // A tag that nobody ever saw, and one that is in use.
    for tens in [1_u64, 2, 2] {
        let tag = format!("tens {tens}");
        for (id, dropper) in [("elsewhere", &here), ("here", &there)] {
            let cache = there.clone();
            let read = |load| async move { cache.get_or_load(id, load).await };
            let overtaken = Held::start(tens * 10, read).await;
            assert_eq!(dropper.invalidate_tag(&tag).await, Invalidated::Everywhere);
            overtaken.end().await;
            assert_eq!(there.get(id).await, None, "{tag} dropped {id}");
            let fresh = by_tens(&far.hub().build());
            assert_eq!(fresh.get(id).await, None, "{tag} dropped {id}, in L2");
        }
        read(&there, "after", &[], tens * 10).await;
        assert_eq!(*there.get("after").await.unwrap(), tens * 10);
        let _ = there.invalidate("after").await;
    }
}

#[tokio::test]
async fn value_that_names_too_many_tags_is_returned_and_not_kept() {
    let many = |value: &u64| (0..*value).map(|n| n.to_string()).collect();
    let cache = Hub::builder().build().cache::<u64>(LONG).tagged_by(many);
    let most = Cache::<u64>::MAX_TAGS as u64;
    for (tags, kept) in [(most, true), (most + 1, false)] {
        let id = tags.to_string();
        assert_eq!(read(&cache, &id, &[], tags).await, tags);
        assert_eq!(cache.get(&id).await.is_some(), kept, "{tags} tags");
    }
}
