//! Who saw a change is shown nothing older next, by the same process.
//!
//! Each load is held until it is told to end. What it finds is given to it: a
//! load that began earlier may well find the newer value, since it asked the source
//! later.

use std::convert::Infallible;
use std::time::Duration;

use maxscale_cache::{Cache, Hub, Invalidated, Token};
use maxscale_tests::eventually;
use tokio::sync::oneshot;
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};

use crate::far::Faulty;
use crate::held::Held;
use crate::source::{LIMIT, LONG};

fn alone() -> Cache<u64> {
    Hub::builder().build().cache(LONG)
}

/// A read of `k` whose load will find `value`.
async fn hold(cache: &Cache<u64>, value: u64) -> Held {
    let reader = cache.clone();
    Held::start(value, move |load| async move {
        reader.get_or_load("k", load).await
    })
    .await
}

async fn drop_it(cache: &Cache<u64>) {
    assert_eq!(cache.invalidate("k").await, Invalidated::Everywhere);
}

/// Reads `k`, of which the source has `value` now.
async fn read(cache: &Cache<u64>, value: u64) -> u64 {
    let load = move || async move { Ok::<_, Infallible>(Some(value)) };
    let read = timeout(LIMIT, cache.get_or_load("k", load)).await;
    *read.unwrap().unwrap().unwrap()
}

/// Lets tasks run that have something to do. What holds after it holds without it.
async fn let_run() {
    for _ in 0..1_000 {
        yield_now().await;
    }
}

#[tokio::test]
async fn load_that_lands_after_its_successor_shows_what_is_kept() {
    let cache = alone();
    // 1 is invalidated, 2 is in the source and not told of yet.
    let older = hold(&cache, 2).await;
    drop_it(&cache).await;
    let newer = hold(&cache, 1).await;
    assert_eq!(newer.end().await, 1);
    let seen = older.end().await;
    let next = read(&cache, 2).await;
    assert!(next >= seen, "{next} after {seen}");
}

#[tokio::test]
async fn load_that_lands_before_its_successor_shows_nothing_newer() {
    let cache = alone();
    let older = hold(&cache, 2).await;
    drop_it(&cache).await;
    let newer = hold(&cache, 1).await;
    let older = older.go();
    let_run().await;
    let newer = newer.go();
    let seen = timeout(LIMIT, older).await.unwrap().unwrap();
    let next = read(&cache, 2).await;
    assert!(next >= seen, "{next} after {seen}");
    newer.await.unwrap();
    let next = read(&cache, 2).await;
    assert!(next >= seen, "{next} after {seen}");
}

#[tokio::test]
async fn nobody_waits_for_more_than_one_load_that_began_later() {
    let cache = alone();
    let first = hold(&cache, 1).await;
    drop_it(&cache).await;
    let second = hold(&cache, 3).await;
    let first = first.go();
    let_run().await;
    drop_it(&cache).await;
    let third = hold(&cache, 2).await;
    let second = second.go();
    let seen = timeout(LIMIT, first).await.unwrap().unwrap();
    assert_eq!(timeout(LIMIT, second).await.unwrap().unwrap(), seen);
    assert_eq!(seen, 3);
    let third = third.go();
    assert!(read(&cache, 3).await >= seen);
    timeout(LIMIT, third).await.unwrap().unwrap();
    assert!(read(&cache, 3).await >= seen);
}

#[tokio::test]
async fn load_whose_successor_fails_shows_what_it_found() {
    let cache = alone();
    let older = hold(&cache, 1).await;
    drop_it(&cache).await;
    let (fails, failing) = oneshot::channel::<()>();
    let load = move || async move {
        failing.await.unwrap();
        panic!("a load may panic")
    };
    let reader = cache.clone();
    let newer =
        tokio::spawn(async move { reader.get_or_load::<_, _, Infallible>("k", load).await });
    let_run().await;
    let older = older.go();
    let_run().await;
    fails.send(()).unwrap();
    assert!(newer.await.unwrap().is_err());
    assert_eq!(timeout(LIMIT, older).await.unwrap().unwrap(), 1);
}

#[tokio::test]
async fn load_overtaken_by_its_tag_shows_nothing_newer_than_what_is_kept() {
    let cache = alone();
    let tagged = |value| {
        let reader = cache.clone();
        Held::start(value, move |load| async move {
            reader.get_or_load_tagged("k", &["red"], load).await
        })
    };
    let older = tagged(2).await;
    assert_eq!(cache.invalidate_tag("red").await, Invalidated::Everywhere);
    let newer = tagged(1).await;
    assert_eq!(newer.end().await, 1);
    let seen = older.end().await;
    let next = read(&cache, 2).await;
    assert!(next >= seen, "{next} after {seen}");
}

#[tokio::test(start_paused = true)]
async fn load_from_long_ago_replaces_nothing_that_was_loaded_since() {
    let far = Faulty::new();
    far.set_deaf();
    let cache = far.hub().build().cache::<u64>(LONG);
    let older = hold(&cache, 0).await;
    sleep(Duration::from_millis(1_500)).await;
    // Changed, and not told yet.
    assert_eq!(read(&cache, 1).await, 1);
    older.end().await;
    assert_eq!(read(&cache, 1).await, 1);
    // Nor in L2, which is asked again after a second in which nothing is heard.
    sleep(Duration::from_millis(1_500)).await;
    assert_eq!(*cache.get("k").await.unwrap(), 1);
}

/// A read of `k` that does not wait for what other processes load.
async fn hold_beside_others(cache: &Cache<u64>, value: u64) -> Held {
    let reader = cache.clone();
    Held::start(value, move |load| async move {
        let load = |_| async move {
            let found = load().await?;
            Ok(found.into_iter().map(|it| ("k".to_owned(), it)).collect())
        };
        let mut answers = reader.get_or_load_many(&["k"], load).await;
        answers.remove(0)
    })
    .await
}

#[tokio::test]
async fn value_that_another_process_stored_later_and_read_earlier_is_not_shown_next() {
    let far = Faulty::new();
    let hub = far.hub().build();
    let (here, there) = (hub.cache::<u64>(LONG), far.hub().build().cache(LONG));
    // 2 is in the source since there was asked, and not told of yet.
    let newer = hold_beside_others(&here, 2).await;
    let older = hold_beside_others(&there, 1).await;
    assert_eq!(newer.end().await, 2);
    assert_eq!(older.end().await, 1);
    let gaps = hub.stats().gaps;
    eventually(LIMIT, async || {
        far.tell_gap();
        hub.stats().gaps > gaps
    })
    .await;
    assert_eq!(read(&here, 2).await, 2);
}

/// The token of a change that L2 did not confirm: only a load can have it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn token_is_kept_to_though_others_read_the_same_meanwhile() {
    let cache = alone();
    let token: Token = "-".parse().unwrap();
    let load = |value| move || async move { Ok::<_, Infallible>(Some(value)) };
    for id in (0..3_000).map(|n| n.to_string()) {
        cache.get_or_load(&id, load(0)).await.unwrap();
        let others = (0..3).map(|_| {
            let (cache, id) = (cache.clone(), id.clone());
            tokio::spawn(async move {
                // Until the change is seen here too.
                while *cache.get_or_load(&id, load(1)).await.unwrap().unwrap() == 0 {
                    yield_now().await;
                }
            })
        });
        let others: Vec<_> = others.collect();
        yield_now().await;
        let value = cache.get_min_version(&id, token, load(1)).await;
        assert_eq!(*value.unwrap().unwrap(), 1, "of {id}");
        for other in others {
            timeout(LIMIT, other).await.unwrap().unwrap();
        }
    }
}
