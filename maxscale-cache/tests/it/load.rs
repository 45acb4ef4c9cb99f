//! Loads: how many run, who gets their answer, and what of it is kept.

use std::convert::Infallible;
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use maxscale_cache::{CacheError, CacheSpec, Hub, Invalidated, L1Engine};
use maxscale_core::fact::Invalidation;
use maxscale_tests::eventually;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;

use crate::held::Held;
use crate::source::{LIMIT, LONG, Source, race};

#[derive(Debug)]
struct Broken;

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("broken")
    }
}

impl std::error::Error for Broken {}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_misses_at_once_make_one_load() {
    let (hub, source) = (Hub::builder().build(), Source::default());
    let cache = hub.cache::<u64>(LONG);
    source.set(7);
    let reads = (0..10_000).map(|_| {
        let (cache, source) = (cache.clone(), source.clone());
        tokio::spawn(async move { source.read(&cache, "hot").await.unwrap() })
    });
    let values = join_all(reads).await;
    assert!(values.into_iter().all(|value| value.unwrap() == 7));
    assert_eq!(source.loads(), 1);
}

#[tokio::test]
async fn callers_that_give_up_do_not_cancel_the_load() {
    let cache = Hub::builder().build().cache::<u64>(LONG);
    let (go, gate) = oneshot::channel::<()>();
    let call = cache.get_or_load("k", move || async move {
        gate.await.unwrap();
        Ok::<_, Infallible>(Some(7))
    });
    assert!(timeout(Duration::from_millis(20), call).await.is_err());
    go.send(()).unwrap();
    let value = eventually(LIMIT, async || cache.get("k").await).await;
    assert_eq!(*value, 7);
}

#[tokio::test]
async fn caller_after_an_invalidation_gets_a_load_of_its_own() {
    let cache = Hub::builder().build().cache::<u64>(LONG);
    let reader = cache.clone();
    let read = |load| async move { reader.get_or_load("k", load).await };
    let older = Held::start(1, read).await;
    assert_eq!(cache.invalidate("k").await, Invalidated::Everywhere);

    let newer = cache.get_or_load("k", || async { Ok::<_, Infallible>(Some(2)) });
    assert_eq!(*timeout(LIMIT, newer).await.unwrap().unwrap().unwrap(), 2);
    // Else who was shown the one might be shown the other next.
    assert_eq!(older.end().await, 2);
    assert_eq!(*cache.get("k").await.unwrap(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_read_after_an_invalidation_returns_an_older_value() {
    for engine in [L1Engine::Moka, L1Engine::Quick] {
        race(&Hub::builder().l1_engine(engine).build()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn load_that_panics_is_an_error_for_all_who_wait() {
    let cache = Hub::builder().build().cache::<u64>(LONG);
    let all_here = Arc::new(Semaphore::new(0));
    let calls: Vec<_> = (0..100)
        .map(|_| {
            let (cache, all_here) = (cache.clone(), all_here.clone());
            tokio::spawn(async move {
                let load = move || async move {
                    let _here = all_here.acquire().await.unwrap();
                    panic!("a load may panic")
                };
                cache.get_or_load::<_, _, Infallible>("k", load).await
            })
        })
        .collect();
    all_here.add_permits(100);
    for answer in timeout(LIMIT, join_all(calls)).await.unwrap() {
        assert!(matches!(answer.unwrap(), Err(CacheError::Aborted)));
    }
    let next = cache.get_or_load("k", || async { Ok::<_, Infallible>(Some(2)) });
    assert_eq!(*next.await.unwrap().unwrap(), 2);
}

#[tokio::test]
async fn neither_errors_nor_absent_values_are_kept() {
    let cache = Hub::builder().build().cache::<u64>(LONG);
    let failed = cache.get_or_load("k", || async { Err(Broken) }).await;
    assert!(matches!(failed, Err(CacheError::Load(_))));
    let absent = cache.get_or_load("k", || async { Ok::<_, Broken>(None) });
    assert_eq!(absent.await.unwrap(), None);
    let there = cache.get_or_load("k", || async { Ok::<_, Broken>(Some(1)) });
    assert_eq!(*there.await.unwrap().unwrap(), 1);
}

#[tokio::test]
async fn loads_over_the_limit_are_refused_after_a_wait() {
    let hub = Hub::builder()
        .load_limit(NonZeroUsize::MIN)
        .load_wait(Duration::from_millis(20))
        .build();
    let cache = hub.cache::<u64>(LONG);
    let reader = cache.clone();
    let read = |load| async move { reader.get_or_load("a", load).await };
    let first = Held::start(1, read).await;
    let second = cache.get_or_load("b", || async { Ok::<_, Broken>(Some(2)) });
    assert!(matches!(second.await, Err(CacheError::Overloaded)));
    assert_eq!(first.end().await, 1);
}

#[tokio::test]
async fn load_that_never_ends_is_ended() {
    let hub = Hub::builder().load_timeout(Duration::from_millis(20));
    let cache = hub.build().cache::<u64>(LONG);
    let call = cache.get_or_load("k", std::future::pending::<Result<_, Broken>>);
    let answer = timeout(LIMIT, call).await.unwrap();
    assert!(matches!(answer, Err(CacheError::TimedOut)));
}

#[tokio::test]
async fn load_that_asks_for_its_own_id_ends_with_an_error() {
    let hub = Hub::builder().load_timeout(Duration::from_millis(50));
    let cache = hub.build().cache::<u64>(LONG);
    let inner = cache.clone();
    let call = cache.get_or_load("k", || async move {
        let load = || async { Ok::<_, Broken>(Some(1)) };
        let value = inner.get_or_load("k", load).await;
        Ok::<_, Broken>(value.unwrap().map(|value| *value))
    });
    let answer = timeout(LIMIT, call).await.unwrap();
    assert!(matches!(answer, Err(CacheError::TimedOut)));
}

#[tokio::test]
async fn hostile_ids_never_share_a_value() {
    let long = "x".repeat(10_000);
    let longer = "x".repeat(10_001);
    let cache = Hub::builder().build().cache::<String>(LONG);
    let ids = [
        "", "a", "a:1", "a%3A1", "{a}", "a\n", "a\0", "ä", "~", &long, &longer,
    ];
    for id in ids {
        let value = id.to_owned();
        let load = || async { Ok::<_, Broken>(Some(value)) };
        cache.get_or_load(id, load).await.unwrap();
    }
    for id in ids {
        assert_eq!(*cache.get(id).await.unwrap(), id);
    }
}

#[tokio::test]
async fn value_over_the_limit_is_returned_and_not_kept() {
    let hub = Hub::builder().build();
    let cache = hub.cache::<String>(LONG);
    let load = || async { Ok::<_, Broken>(Some("x".repeat(Hub::MAX_VALUE))) };
    let value = cache.get_or_load("k", load).await.unwrap().unwrap();
    assert_eq!(value.len(), Hub::MAX_VALUE);
    assert_eq!(cache.get("k").await, None);
    assert_eq!(hub.stats().rejected_by_size, 1);
}

#[tokio::test]
async fn value_of_another_type_or_version_is_a_miss() {
    let hub = Hub::builder().build();
    let numbers = hub.cache::<u64>(LONG);
    let load = || async { Ok::<_, Broken>(Some(1)) };
    numbers.get_or_load("k", load).await.unwrap();
    assert_eq!(hub.cache::<String>(LONG).get("k").await, None);
    let next = CacheSpec::new("number", 2);
    assert_eq!(hub.cache::<u64>(next).get("k").await, None);
    assert_eq!(*numbers.get("k").await.unwrap(), 1);
}

#[tokio::test]
async fn carried_invalidation_drops_every_version_here() {
    let hub = Hub::builder().build();
    let caches = [1, 2].map(|version| hub.cache::<u64>(CacheSpec::new("user", version)));
    for cache in &caches {
        let load = || async { Ok::<_, Broken>(Some(1)) };
        cache.get_or_load("a:b", load).await.unwrap();
    }
    let of = |kind: &str| Invalidation {
        kind: kind.into(),
        id: "a:b".into(),
    };
    assert_eq!(
        hub.apply(&of("stranger")).await.unwrap_err().kind(),
        "stranger"
    );
    assert_eq!(hub.apply(&of("user")).await, Ok(Invalidated::Everywhere));
    for cache in &caches {
        assert_eq!(cache.get("a:b").await, None);
    }
}

#[tokio::test]
async fn l1_answers_without_asking_further() {
    let hub = Hub::builder().build();
    let (cache, source) = (hub.cache::<u64>(LONG), Source::default());
    for _ in 0..10 {
        source.read(&cache, "k").await.unwrap();
    }
    let stats = hub.stats();
    assert_eq!((stats.loads, stats.l1_hits, stats.l2_hits), (1, 9, 0));
}

#[tokio::test]
async fn l1_stays_within_its_budget() {
    let hub = Hub::builder().l1_budget(100_000).build();
    let cache = hub.cache::<String>(LONG.l2_ttl(Duration::ZERO));
    let count = AtomicU64::new(0);
    for id in 0..500 {
        let load = || async { Ok::<_, Broken>(Some("x".repeat(1_000))) };
        cache.get_or_load(&id.to_string(), load).await.unwrap();
    }
    eventually(LIMIT, async || {
        count.store(0, Ordering::SeqCst);
        for id in 0..500 {
            if cache.get(&id.to_string()).await.is_some() {
                count.fetch_add(1, Ordering::SeqCst);
            }
        }
        let kept = count.load(Ordering::SeqCst);
        (1..=66).contains(&kept).then_some(()).ok_or(kept)
    })
    .await;
}

#[tokio::test]
async fn refresh_replaces_a_value_and_serves_the_old_one_until_then() {
    let cache = Hub::builder().build().cache::<u64>(LONG);
    let load = |value| move || async move { Ok::<_, Infallible>(value) };
    cache.get_or_load("k", load(Some(1))).await.unwrap();
    let reader = cache.clone();
    let read = |load| async move { reader.refresh("k", load).await };
    let newer = Held::start(2, read).await;
    assert_eq!(*cache.get("k").await.unwrap(), 1);
    assert_eq!(newer.end().await, 2);
    assert_eq!(*cache.get("k").await.unwrap(), 2);

    assert!(cache.refresh("k", load(None)).await.unwrap().is_none());
    assert_eq!(*cache.get("k").await.unwrap(), 2);
}

#[tokio::test]
async fn refresh_that_an_invalidation_overtook_is_not_kept() {
    let cache = Hub::builder().build().cache::<u64>(LONG);
    let inside = cache.clone();
    let load = move || async move {
        let _ = inside.invalidate("k").await;
        Ok::<_, Infallible>(Some(1))
    };
    assert_eq!(*cache.refresh("k", load).await.unwrap().unwrap(), 1);
    assert!(cache.get("k").await.is_none());
}
