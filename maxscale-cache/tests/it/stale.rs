//! Values that are not fresh any more, and those that are known not to exist.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use maxscale_cache::{Cache, CacheError, CacheSpec, Hub, Invalidated};
use maxscale_tests::eventually;
use tokio::time::{Instant, advance, sleep};

use crate::source::LIMIT;

#[derive(Debug)]
struct Broken;

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("broken")
    }
}

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// Fresh for ten seconds.
const SPEC: CacheSpec = CacheSpec::new("number", 1)
    .l1_ttl(Duration::from_secs(600))
    .l2_ttl(Duration::from_secs(10))
    .jitter_percent(0);

fn cache(spec: CacheSpec) -> Cache<u64> {
    Hub::builder().build().cache(spec)
}

async fn read(cache: &Cache<u64>, now: u64) -> u64 {
    let load = move || async move { Ok::<_, Broken>(Some(now)) };
    *cache.get_or_load("k", load).await.unwrap().unwrap()
}

async fn fail(cache: &Cache<u64>) -> Result<u64, CacheError<Broken>> {
    let answer = cache.get_or_load("k", || async { Err(Broken) }).await;
    answer.map(|value| *value.unwrap())
}

#[tokio::test(start_paused = true)]
async fn value_past_its_time_is_served_while_a_new_one_is_loaded() {
    let cache = cache(SPEC.stale_while_revalidating(MINUTE));
    assert_eq!(read(&cache, 1).await, 1);
    advance(11 * SECOND).await;
    assert_eq!(read(&cache, 2).await, 1);
    eventually(LIMIT, async || {
        cache.get("k").await.is_some_and(|it| *it == 2)
    })
    .await;

    advance(71 * SECOND).await;
    assert_eq!(read(&cache, 3).await, 3, "past its window");
}

#[tokio::test(start_paused = true)]
async fn value_past_its_time_is_served_if_no_new_one_can_be_loaded() {
    let cache = cache(SPEC.stale_if_error(MINUTE));
    assert_eq!(read(&cache, 1).await, 1);
    advance(11 * SECOND).await;
    assert_eq!(fail(&cache).await.unwrap(), 1);
    assert_eq!(cache.get("k").await, None, "there is no error here");
    assert_eq!(read(&cache, 2).await, 2);

    advance(71 * SECOND).await;
    assert!(fail(&cache).await.is_err(), "past its window");
}

#[tokio::test(start_paused = true)]
async fn load_that_takes_too_long_for_its_caller_goes_on() {
    let cache = cache(SPEC.stale_if_error(MINUTE).patience(SECOND));
    assert_eq!(read(&cache, 1).await, 1);
    advance(11 * SECOND).await;
    let start = Instant::now();
    let slow = || async {
        sleep(5 * SECOND).await;
        Ok::<_, Broken>(Some(2))
    };
    assert_eq!(*cache.get_or_load("k", slow).await.unwrap().unwrap(), 1);
    assert_eq!(start.elapsed(), SECOND);
    eventually(LIMIT, async || {
        cache.get("k").await.is_some_and(|it| *it == 2)
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn invalidated_value_is_served_in_no_window() {
    let cache = cache(SPEC.stale_if_error(MINUTE).stale_while_revalidating(MINUTE));
    assert_eq!(read(&cache, 1).await, 1);
    assert_eq!(cache.invalidate("k").await, Invalidated::Everywhere);
    assert!(fail(&cache).await.is_err());
    assert_eq!(read(&cache, 2).await, 2);
}

#[tokio::test(start_paused = true)]
async fn value_marked_stale_is_served_as_one_past_its_time() {
    let cache = cache(SPEC.stale_while_revalidating(MINUTE));
    assert_eq!(read(&cache, 1).await, 1);
    assert_eq!(cache.mark_stale("k").await, Invalidated::Everywhere);
    assert_eq!(read(&cache, 2).await, 1);
    eventually(LIMIT, async || {
        cache.get("k").await.is_some_and(|it| *it == 2)
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn value_marked_stale_without_a_window_is_loaded() {
    let cache = cache(SPEC);
    assert_eq!(read(&cache, 1).await, 1);
    assert_eq!(cache.mark_stale("k").await, Invalidated::Everywhere);
    assert_eq!(read(&cache, 2).await, 2);
    assert_eq!(read(&cache, 3).await, 2, "it is fresh again");
}

#[tokio::test(start_paused = true)]
async fn load_from_before_a_mark_is_not_fresh_after_it() {
    let cache = cache(SPEC);
    let inside = cache.clone();
    let load = move || async move {
        let _ = inside.mark_stale("k").await;
        Ok::<_, Broken>(Some(1))
    };
    assert_eq!(*cache.get_or_load("k", load).await.unwrap().unwrap(), 1);
    assert_eq!(read(&cache, 2).await, 2);
}

#[tokio::test(start_paused = true)]
async fn absence_is_kept_for_its_own_time_and_until_an_invalidation() {
    let cache = cache(SPEC.absent_ttl(5 * SECOND));
    let absent = async |loads: &Arc<AtomicU64>| {
        let loads = loads.clone();
        let load = move || async move {
            loads.fetch_add(1, Ordering::SeqCst);
            Ok::<_, Broken>(None)
        };
        assert_eq!(cache.get_or_load("k", load).await.unwrap(), None);
    };
    let loads = Arc::default();
    absent(&loads).await;
    absent(&loads).await;
    assert_eq!(loads.load(Ordering::SeqCst), 1);
    advance(6 * SECOND).await;
    absent(&loads).await;
    assert_eq!(loads.load(Ordering::SeqCst), 2);
    assert_eq!(cache.invalidate("k").await, Invalidated::Everywhere);
    assert_eq!(read(&cache, 1).await, 1);
}

#[tokio::test(start_paused = true)]
async fn value_that_is_gone_at_its_source_is_dropped() {
    let cache = cache(SPEC.stale_while_revalidating(MINUTE));
    assert_eq!(read(&cache, 1).await, 1);
    advance(11 * SECOND).await;
    let gone = || async { Ok::<_, Broken>(None) };
    assert_eq!(*cache.get_or_load("k", gone).await.unwrap().unwrap(), 1);
    eventually(LIMIT, async || cache.get("k").await.is_none()).await;
}

#[tokio::test(start_paused = true)]
async fn value_that_many_read_is_loaded_before_its_end() {
    let cache = cache(SPEC.refresh_early());
    let loads = Arc::new(AtomicU64::new(0));
    let read = async || {
        let loads = loads.clone();
        let load = move || async move {
            sleep(SECOND).await;
            Ok::<_, Broken>(Some(loads.fetch_add(1, Ordering::SeqCst)))
        };
        *cache.get_or_load("k", load).await.unwrap().unwrap()
    };
    assert_eq!(read().await, 0);
    // It took a second, so that of reads this late nearly each begins a load.
    advance(Duration::from_millis(8_950)).await;
    let start = Instant::now();
    for _ in 0..100 {
        assert_eq!(read().await, 0);
    }
    assert_eq!(start.elapsed(), Duration::ZERO, "nobody waited");
    sleep(3 * SECOND).await;
    assert_eq!(read().await, 1);
    assert_eq!(loads.load(Ordering::SeqCst), 2, "one load for all of them");
}

#[tokio::test(start_paused = true)]
async fn lives_differ_by_the_jitter_and_no_more() {
    let cache = cache(SPEC.jitter_percent(50));
    for id in 0..200 {
        let load = || async { Ok::<_, Broken>(Some(1)) };
        cache.get_or_load(&id.to_string(), load).await.unwrap();
    }
    let alive = async || {
        let mut alive = 0;
        for id in 0..200 {
            alive += u32::from(cache.get(&id.to_string()).await.is_some());
        }
        alive
    };
    advance(Duration::from_millis(4_900)).await;
    assert_eq!(alive().await, 200);
    advance(Duration::from_millis(2_600)).await;
    let half = alive().await;
    assert!(
        (50..150).contains(&half),
        "{half} of 200 after three quarters"
    );
    advance(Duration::from_millis(2_600)).await;
    assert_eq!(alive().await, 0);
}

#[tokio::test(start_paused = true)]
async fn reads_by_token_share_the_load_behind_what_they_are_served() {
    let cache = cache(SPEC.stale_while_revalidating(MINUTE));
    let (_, token) = cache.invalidate_with_token("k").await;
    assert_eq!(read(&cache, 1).await, 1);
    advance(11 * SECOND).await;
    let loads = Arc::new(AtomicU64::new(0));
    for _ in 0..10 {
        let loads = loads.clone();
        let load = move || async move {
            loads.fetch_add(1, Ordering::SeqCst);
            sleep(SECOND).await;
            Ok::<_, Broken>(Some(2))
        };
        let value = cache.get_min_version("k", token, load).await;
        assert_eq!(*value.unwrap().unwrap(), 1);
        tokio::task::yield_now().await;
    }
    eventually(LIMIT, async || {
        cache.get("k").await.is_some_and(|it| *it == 2)
    })
    .await;
    assert_eq!(loads.load(Ordering::SeqCst), 1);
}
