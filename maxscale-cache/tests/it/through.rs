//! Writes through the cache: what is told when they end, fail, panic, or race.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use maxscale_cache::{Cache, CacheSpec, Invalidated, WriteError};
use maxscale_core::BoxError;
use maxscale_tests::eventually;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use crate::far::Faulty;
use crate::source::{LIMIT, LONG, Source};

const FAR_ONLY: CacheSpec = LONG.l1_ttl(Duration::ZERO);

/// Two hubs with one L2, of which the second has nothing but what L2 has.
fn pair(here: CacheSpec) -> (Cache<u64>, Cache<u64>) {
    let far = Faulty::new();
    far.set_deaf();
    let cache = |spec| far.hub().build().cache(spec).versioned_by(|value| *value);
    (cache(here), cache(FAR_ONLY))
}

#[tokio::test]
async fn write_through_leaves_the_new_value_in_the_place_of_the_old() {
    let ((here, there), source) = (pair(LONG), Source::default());
    source.set(1);
    source.read(&here, "k").await.unwrap();
    let write = || async { Ok::<_, BoxError>(Some(2)) };
    let (value, told) = here.write_through("k", write).await.unwrap();
    assert_eq!(
        (value.as_deref(), told),
        (Some(&2), Invalidated::Everywhere)
    );
    assert_eq!(here.get("k").await.as_deref(), Some(&2));
    assert_eq!(there.get("k").await.as_deref(), Some(&2));

    let write = || async { Ok::<_, BoxError>(None) };
    let gone = here.write_through("k", write).await.unwrap();
    assert_eq!(gone, (None, Invalidated::Everywhere));
    assert_eq!(here.get("k").await, None);
    assert_eq!(there.get("k").await, None);
}

#[tokio::test]
async fn write_whose_outcome_is_unknown_drops_the_value() {
    let ((here, there), source) = (pair(LONG), Source::default());
    source.set(1);
    source.read(&here, "k").await.unwrap();
    let lost = || async { Err::<Option<u64>, _>("no answer") };
    let failed = here.write_through("k", lost).await;
    assert!(matches!(failed, Err(WriteError::Write("no answer"))));
    assert_eq!(there.get("k").await, None);

    source.read(&here, "k").await.unwrap();
    let broken = || async { panic!("half-way") };
    let failed = here.write_through::<_, _, BoxError>("k", broken).await;
    assert!(matches!(failed, Err(WriteError::Aborted)));
    assert_eq!(
        here.peek("k"),
        None,
        "gone here when the caller hears of it"
    );
    eventually(LIMIT, async || there.get("k").await.is_none()).await;
}

#[tokio::test]
async fn write_whose_caller_gave_up_is_told_when_it_ends() {
    let ((here, there), source) = (pair(LONG), Source::default());
    source.set(1);
    source.read(&here, "k").await.unwrap();
    let (begun, begin) = oneshot::channel::<()>();
    let (go, gate) = oneshot::channel::<()>();
    let write = || async move {
        begun.send(()).unwrap();
        gate.await.unwrap();
        Ok::<_, BoxError>(Some(2))
    };
    tokio::select! {
        _ = here.write_through("k", write) => unreachable!("it waits"),
        started = timeout(LIMIT, begin) => started.unwrap().unwrap(),
    }
    assert_eq!(there.get("k").await.as_deref(), Some(&1));
    go.send(()).unwrap();
    eventually(LIMIT, async || there.get("k").await.as_deref() == Some(&2)).await;
    assert_eq!(here.get("k").await.as_deref(), Some(&2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_two_writes_at_once_the_older_value_is_never_left() {
    let (here, there) = pair(FAR_ONLY);
    let newest = Arc::new(AtomicU64::new(1));
    let mut left = 0;
    let end = Instant::now() + LIMIT;
    for round in 0_u64.. {
        if round >= 2_000 && (left > 0 || Instant::now() > end) {
            break;
        }
        let current = newest.load(Ordering::SeqCst);
        let load = move || async move { Ok::<_, BoxError>(Some(current)) };
        here.get_or_load("k", load).await.unwrap();
        let writes = [&here, &there].map(|cache| {
            let (cache, newest) = (cache.clone(), newest.clone());
            tokio::spawn(async move {
                let write = move || async move {
                    let version = newest.fetch_add(1, Ordering::SeqCst) + 1;
                    // The one that is older here is now and then told last.
                    for _ in 0..(version ^ round) % 3 {
                        tokio::task::yield_now().await;
                    }
                    Ok::<_, BoxError>(Some(version))
                };
                let (_, told) = cache.write_through("k", write).await.unwrap();
                assert_eq!(told, Invalidated::Everywhere);
            })
        });
        for write in writes {
            write.await.unwrap();
        }
        let newest = newest.load(Ordering::SeqCst);
        for cache in [&here, &there] {
            if let Some(value) = cache.get("k").await {
                assert_eq!(*value, newest, "in round {round}");
                left += 1;
            }
        }
    }
    assert!(left > 0, "a value is left now and then");
}
