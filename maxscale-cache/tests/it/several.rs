//! Several values at once, and values that the caller knows.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::future::join_all;
use maxscale_cache::remote::LocalRemote;
use maxscale_cache::{CacheError, Hub, Invalidated};

use crate::far::Faulty;
use crate::source::{LONG, Source};

fn of(values: Vec<Option<Arc<u64>>>) -> Vec<Option<u64>> {
    values
        .into_iter()
        .map(|value| value.map(|it| *it))
        .collect()
}

#[tokio::test]
async fn values_come_in_the_order_asked_for_from_either_tier() {
    let far = LocalRemote::default();
    let hubs = [(); 2].map(|()| Hub::builder().remote(far.clone()).build());
    let [here, there] = [&hubs[0], &hubs[1]].map(|hub| hub.cache::<u64>(LONG));
    for (id, cache) in [("1", &here), ("2", &there), ("3", &here)] {
        let load = || async { Ok::<_, Infallible>(Some(id.parse().unwrap())) };
        cache.get_or_load(id, load).await.unwrap();
    }
    let values = here.get_many(&["3", "none", "2", "1", "2"]).await;
    assert_eq!(of(values), [Some(3), None, Some(2), Some(1), Some(2)]);
    assert!(here.get_many(&[]).await.is_empty());
    // What came from L2 is near now.
    let before = hubs[0].stats().l1_hits;
    assert_eq!(of(here.get_many(&["2"]).await), [Some(2)]);
    assert_eq!(hubs[0].stats().l1_hits, before + 1);
}

#[tokio::test]
async fn what_is_missing_is_loaded_by_one_call() {
    let hub = Hub::builder().build();
    let cache = hub.cache::<u64>(LONG);
    let load = || async { Ok::<_, Infallible>(Some(1)) };
    cache.get_or_load("1", load).await.unwrap();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let load = {
        let asked = asked.clone();
        move |ids: Vec<String>| async move {
            asked.lock().unwrap().clone_from(&ids);
            let found = ids.into_iter().filter(|id| id != "none");
            let values = found.map(|id| (id.clone(), id.parse().unwrap()));
            Ok::<HashMap<_, _>, Infallible>(values.collect())
        }
    };
    let answers = cache
        .get_or_load_many(&["2", "1", "none", "3", "2"], load)
        .await;
    let values = answers.into_iter().map(Result::unwrap).collect();
    assert_eq!(of(values), [Some(2), Some(1), None, Some(3), Some(2)]);
    assert_eq!(*asked.lock().unwrap(), ["2", "none", "3"]);
    assert_eq!(hub.stats().loads, 2);
    assert_eq!(of(cache.get_many(&["3", "2"]).await), [Some(3), Some(2)]);
}

#[tokio::test]
async fn failed_load_of_several_fails_what_was_missing_and_nothing_else() {
    let cache = Hub::builder().build().cache::<u64>(LONG);
    let load = || async { Ok::<_, &str>(Some(1)) };
    cache.get_or_load("1", load).await.unwrap();
    let load = |_| async { Err::<HashMap<String, u64>, _>("broken") };
    let answers = cache.get_or_load_many(&["1", "2", "3"], load).await;
    assert_eq!(**answers[0].as_ref().unwrap().as_ref().unwrap(), 1);
    for answer in &answers[1..] {
        assert!(matches!(answer, Err(CacheError::Load(_))), "{answer:?}");
    }
}

#[tokio::test]
async fn several_overtaken_by_an_invalidation_are_not_kept() {
    let far = Faulty::new();
    far.set_deaf();
    let [here, there] = [far.hub().build(), far.hub().build()].map(|hub| hub.cache::<u64>(LONG));
    let elsewhere = there.clone();
    let inside = here.clone();
    let load = move |ids: Vec<String>| async move {
        let _ = elsewhere.invalidate("1").await;
        let _ = inside.invalidate("2").await;
        Ok::<HashMap<_, _>, Infallible>(ids.into_iter().map(|id| (id, 0)).collect())
    };
    here.get_or_load_many(&["1", "2", "3"], load).await;
    assert_eq!(
        of(here.get_many(&["1", "2", "3"]).await),
        [None, None, Some(0)]
    );
}

#[tokio::test]
async fn value_that_was_put_is_found_by_all_without_a_load() {
    let far = LocalRemote::default();
    let hubs = [(); 2].map(|()| Hub::builder().remote(far.clone()).build());
    let [here, there] = [&hubs[0], &hubs[1]].map(|hub| hub.cache::<u64>(LONG));
    let source = Source::default();
    source.read(&here, "k").await.unwrap();
    assert_eq!(here.put("k", 7).await, Invalidated::Everywhere);
    assert_eq!(*here.get("k").await.unwrap(), 7);
    assert_eq!(*there.get("k").await.unwrap(), 7);
    assert_eq!(source.loads(), 1);
}

#[tokio::test]
async fn older_version_replaces_no_newer_one() {
    let cache = Hub::builder().build().cache::<u64>(LONG);
    let cache = cache.versioned_by(|value| *value);
    let source = Source::default();
    let newer = async |version| {
        let done = cache.put_if_newer("k", version, version).await;
        assert_eq!(done, Invalidated::Everywhere);
    };
    newer(3).await;
    assert_eq!(
        cache.get("k").await,
        None,
        "nothing was there to compare with"
    );
    source.set(4);
    source.read(&cache, "k").await.unwrap();
    newer(5).await;
    assert_eq!(*cache.get("k").await.unwrap(), 5);
    newer(7).await;
    assert_eq!(*cache.get("k").await.unwrap(), 7);
    newer(6).await;
    assert_eq!(cache.get("k").await, None, "it is dropped, not replaced");
    newer(8).await;
    assert_eq!(
        cache.get("k").await,
        None,
        "nothing was there to compare with"
    );
}

#[tokio::test]
async fn racing_puts_by_version_leave_the_newest_value_or_none() {
    let far = LocalRemote::default();
    let hub = || Hub::builder().remote(far.clone()).build();
    let caches = [hub(), hub()].map(|hub| hub.cache::<u64>(LONG).versioned_by(|value| *value));
    let source = Source::default();
    let register = AtomicU64::new(1);
    source.set(1);
    let mut stored = 0;
    for round in 0..500 {
        let writers = (0..4).map(|n| {
            let (cache, register, source) = (&caches[n % 2], &register, &source);
            async move {
                let version = register.fetch_add(1, Ordering::SeqCst) + 1;
                source.set(version);
                // The later one may be told first.
                for _ in 0..(version.wrapping_mul(0x9e37_79b9) >> 7) % 4 {
                    tokio::task::yield_now().await;
                }
                match (version.wrapping_mul(0x9e37_79b9) >> 13) % 8 {
                    0 | 1 => drop(cache.invalidate("k").await),
                    _ => drop(cache.put_if_newer("k", version, version).await),
                }
                if version.is_multiple_of(3) {
                    source.read(cache, "k").await.unwrap();
                }
            }
        });
        join_all(writers).await;
        // L1 may be a message behind; L2 may not.
        let fresh = hub().cache::<u64>(LONG);
        let now = register.load(Ordering::SeqCst);
        if let Some(value) = fresh.get("k").await {
            stored += 1;
            assert_eq!(*value, now, "round {round}");
        }
    }
    assert!(stored > 10, "hardly anything was kept");
}
