//! Write-behind: what is read, written, refused, waited for and kept.

mod database;
mod journal;
mod killed;
mod paused;
mod place;
mod replicas;
mod stream;
mod table;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use maxscale_cache::behind::{Ack, Behind, BehindBuilder, BehindError};
use maxscale_cache::{Cache, CacheError, Hub, Invalidated};
use maxscale_core::control::Backoff;
use maxscale_tests::eventually;

use crate::far::Faulty;
use crate::source::{LIMIT, LONG};
use table::Table;

/// Waits between attempts that no test has to wait for.
const SOON: Backoff = Backoff::new(Duration::from_millis(1), Duration::from_millis(5));

fn cache() -> Cache<u64> {
    Hub::builder().build().cache(LONG)
}

fn builder(cache: &Cache<u64>, ack: Ack, table: &Table) -> BehindBuilder<u64> {
    let (write, bury) = (table.clone(), table.clone());
    let write = move |ops| write.clone().write(ops);
    let bury = move |letter| bury.clone().bury(letter);
    Behind::builder(cache, ack, write, bury)
        .max_delay(Duration::from_millis(1))
        .backoff(SOON)
}

async fn in_memory(cache: &Cache<u64>, table: &Table) -> Behind<u64> {
    builder(cache, Ack::Memory, table).open().await.unwrap()
}

async fn load(cache: &Cache<u64>, table: &Table, id: &str) -> Option<u64> {
    let (table, wanted) = (table.clone(), id.to_owned());
    let load = || async move { Ok::<_, CacheError<()>>(table.get(&wanted)) };
    cache.get_or_load(id, load).await.unwrap().map(|it| *it)
}

#[tokio::test]
async fn accepted_value_is_what_every_read_here_gets_until_it_is_written() {
    let (far, table) = (Faulty::new(), Table::default());
    let [here, there] = [far.hub().build(), far.hub().build()].map(|hub| hub.cache::<u64>(LONG));
    table.set("k", 1);
    assert_eq!(load(&here, &table, "k").await, Some(1));
    let behind = in_memory(&here, &table).await;
    table.set_down(true);
    behind.put("k", 2).await.unwrap();
    // Neither an invalidation nor a value of somebody else takes its place.
    assert_eq!(here.invalidate("k").await, Invalidated::Everywhere);
    for _ in 0..2 {
        assert_eq!(here.peek("k").as_deref(), Some(&2));
        assert_eq!(here.get("k").await.as_deref(), Some(&2));
        assert_eq!(load(&here, &table, "k").await, Some(2));
        assert_eq!(here.get_many(&["k"]).await[0].as_deref(), Some(&2));
        let none = async |_| Ok::<_, ()>(HashMap::new());
        let many = here.get_or_load_many(&["k"], none).await;
        assert_eq!(many[0].as_ref().unwrap().as_deref(), Some(&2));
        let old = || async { Ok::<_, ()>(Some(1)) };
        assert_eq!(here.refresh("k", old).await.unwrap().as_deref(), Some(&2));
        assert_eq!(here.put("k", 1).await, Invalidated::Everywhere);
    }
    assert_eq!(
        load(&there, &table, "k").await,
        Some(1),
        "others wait for it"
    );
    behind.delete("k").await.unwrap();
    assert_eq!(load(&here, &table, "k").await, None);
    behind.put("k", 3).await.unwrap();

    table.set_down(false);
    eventually(LIMIT, async || behind.pending() == 0).await;
    assert_eq!(table.get("k"), Some(3));
    assert_eq!(load(&here, &table, "k").await, Some(3));
    eventually(LIMIT, async || load(&there, &table, "k").await == Some(3)).await;
    // It is pinned no more: what the source has counts again.
    table.set("k", 4);
    assert_eq!(here.invalidate("k").await, Invalidated::Everywhere);
    assert_eq!(load(&here, &table, "k").await, Some(4));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_read_that_begins_after_a_put_returned_gets_an_older_value() {
    let (cache, table) = (cache(), Table::default());
    let behind = in_memory(&cache, &table).await;
    let known = Arc::new(AtomicU64::new(0));
    let done = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..4)
        .map(|_| {
            let (cache, table) = (cache.clone(), table.clone());
            let (known, done) = (known.clone(), done.clone());
            tokio::spawn(async move {
                while !done.load(Ordering::SeqCst) {
                    let least = known.load(Ordering::SeqCst);
                    let value = load(&cache, &table, "k").await.unwrap_or(0);
                    assert!(value >= least, "{value} after {least}");
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    for value in 1..=3_000 {
        behind.put("k", value).await.unwrap();
        known.store(value, Ordering::SeqCst);
        if value % 3 == 0 {
            // Written and told before the next one: reads go to the source again.
            eventually(LIMIT, async || behind.pending() == 0).await;
        }
        tokio::task::yield_now().await;
    }
    done.store(true, Ordering::SeqCst);
    for reader in readers {
        reader.await.unwrap();
    }
    assert!(table.writes() > 500, "{}", table.writes());
}

#[tokio::test(start_paused = true)]
async fn of_each_id_one_value_is_written_per_window() {
    let (cache, table) = (cache(), Table::default());
    let window = Duration::from_secs(1);
    let behind = builder(&cache, Ack::Memory, &table).max_delay(window);
    let behind = behind.open().await.unwrap();
    for round in 1..=3_u64 {
        for value in 0..100 {
            for key in 0..10 {
                let id = format!("k{key}");
                behind.put(&id, round * 1_000 + value).await.unwrap();
            }
        }
        assert_eq!(table.writes(), 10 * (usize::try_from(round).unwrap() - 1));
        tokio::time::sleep(window * 2).await;
        assert_eq!(table.writes(), 10 * usize::try_from(round).unwrap());
        assert_eq!(table.get("k9"), Some(round * 1_000 + 99));
    }
}

#[tokio::test]
async fn value_that_is_refused_again_and_again_is_a_dead_letter_and_others_flow() {
    let (cache, table) = (cache(), Table::default());
    table.poison("bad");
    table.lose_letters(3);
    let behind = builder(&cache, Ack::Memory, &table).batch(64).refusals(4);
    let behind = behind.open().await.unwrap();
    table.set_down(true);
    for key in 0..60 {
        behind.put(&format!("good{key}"), 1).await.unwrap();
    }
    behind.put("bad", 1).await.unwrap();
    // While nothing can be written, nothing is refused.
    eventually(LIMIT, async || table.failures() > 10).await;
    assert_eq!(table.letters(), []);
    table.set_down(false);
    eventually(LIMIT, async || table.get("good59") == Some(1)).await;
    behind.put("later", 1).await.unwrap();
    eventually(LIMIT, async || table.get("later") == Some(1)).await;
    eventually(LIMIT, async || behind.pending() == 0).await;
    assert_eq!(table.letters(), [("bad".to_owned(), Some(1))]);
    assert_eq!(table.get("bad"), None);
    assert_eq!(
        load(&cache, &table, "bad").await,
        None,
        "it is read no more"
    );
    for key in 0..60 {
        assert_eq!(table.get(&format!("good{key}")), Some(1));
    }
}

#[tokio::test]
async fn sink_that_panics_costs_the_value_that_it_panics_at() {
    let (cache, table) = (cache(), Table::default());
    table.panic_at("bad");
    let behind = in_memory(&cache, &table).await;
    for id in ["a", "bad", "b"] {
        behind.put(id, 1).await.unwrap();
    }
    eventually(LIMIT, async || behind.pending() == 0).await;
    assert_eq!((table.get("a"), table.get("b")), (Some(1), Some(1)));
    assert_eq!(table.letters(), [("bad".to_owned(), Some(1))]);
}

#[tokio::test]
async fn writers_wait_for_room_and_nothing_is_dropped() {
    let (cache, table) = (cache(), Table::default());
    let behind = builder(&cache, Ack::Memory, &table).budget(4_096);
    let behind = behind
        .max_wait(Duration::from_millis(50))
        .open()
        .await
        .unwrap();
    table.set_down(true);
    let mut accepted = 0_u64;
    let full = loop {
        assert!(accepted < 1_000, "there is no end to the room");
        match behind.put(&format!("k{accepted}"), accepted).await {
            Ok(_) => accepted += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(full, BehindError::Full { .. }), "{full:?}");
    assert!((4..64).contains(&accepted), "{accepted}");
    let id = "x".repeat(5_000);
    let long = behind.put(&id, 1).await;
    assert!(
        matches!(long, Err(BehindError::TooLarge { .. })),
        "{long:?}"
    );
    table.set_down(false);
    // Whoever waits gets in as soon as there is room.
    eventually(LIMIT, async || behind.put("last", 1).await.is_ok()).await;
    eventually(LIMIT, async || behind.pending() == 0).await;
    for key in 0..accepted {
        assert_eq!(table.get(&format!("k{key}")), Some(key));
    }
}

#[tokio::test]
async fn graceful_end_writes_everything_and_tells_if_it_could_not() {
    let (cache, table) = (cache(), Table::default());
    let behind = builder(&cache, Ack::Memory, &table).max_delay(LIMIT * 100);
    let behind = behind.open().await.unwrap();
    for key in 0..1_000 {
        behind.put(&format!("k{key}"), key).await.unwrap();
    }
    behind.shutdown(LIMIT).await.unwrap();
    assert_eq!(table.get("k999"), Some(999));
    let late = behind.put("k", 1).await;
    assert!(matches!(late, Err(BehindError::Closed)), "{late:?}");

    let behind = in_memory(&cache, &table).await;
    table.set_down(true);
    behind.put("left", 1).await.unwrap();
    let left = behind
        .shutdown(Duration::from_millis(50))
        .await
        .unwrap_err();
    assert_eq!(left.left(), 1);
    assert_eq!(
        load(&cache, &table, "left").await,
        None,
        "it is read no more"
    );
}
