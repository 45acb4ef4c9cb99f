//! What the journal has when it is opened again, and how long it gets.

use std::path::Path;

use maxscale_cache::behind::{Ack, Behind, BehindBuilder, Folder, Journal};
use maxscale_cache::{Cache, CacheSpec, Hub, JournalError};
use maxscale_core::clock::{Clock, Timestamp};
use maxscale_tests::eventually;

use super::table::Table;
use super::{builder, cache, load};
use crate::source::LIMIT;

fn journaled(cache: &Cache<u64>, folder: &Path, table: &Table) -> BehindBuilder<u64> {
    let journal = Folder::new(folder).segment(2_000).into();
    builder(cache, Ack::Journal(journal), table)
}

async fn open(cache: &Cache<u64>, folder: &Path, table: &Table) -> Behind<u64> {
    journaled(cache, folder, table).open().await.unwrap()
}

/// The handle that is dropped lets go of its folder when its last write is done.
async fn reopen(cache: &Cache<u64>, folder: &Path, table: &Table) -> Behind<u64> {
    eventually(LIMIT, async || journaled(cache, folder, table).open().await).await
}

fn size(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).unwrap();
    entries
        .map(|it| it.unwrap().metadata().unwrap().len())
        .sum()
}

#[tokio::test]
async fn what_was_accepted_is_there_after_the_next_start_under_the_same_versions() {
    let (folder, table) = (tempfile::tempdir().unwrap(), Table::default());
    let before = cache();
    let behind = open(&before, folder.path(), &table).await;
    table.set_down(true);
    let mut last = 0;
    for value in 1..=200 {
        let version = behind.put(&format!("k{}", value % 7), value).await.unwrap();
        assert!(version > last);
        last = version;
    }
    last = behind.delete("k3").await.unwrap();
    drop(behind);

    // Also if the clock was set back.
    let (clock, _) = Clock::manual(Timestamp::from_micros(1));
    let after = cache();
    let behind = eventually(LIMIT, async || {
        let journaled = journaled(&after, folder.path(), &table);
        journaled.clock(clock.clone()).open().await
    })
    .await;
    assert_eq!((behind.replayed().values, behind.replayed().torn), (7, 0));
    assert_eq!(load(&after, &table, "k4").await, Some(200));
    assert_eq!(load(&after, &table, "k3").await, None);
    assert!(behind.put("k1", 1_000).await.unwrap() > last);
    table.set_down(false);
    eventually(LIMIT, async || behind.pending() == 0).await;
    assert_eq!((table.get("k4"), table.get("k3")), (Some(200), None));
    assert_eq!(table.get("k1"), Some(1_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn value_is_kept_though_its_handle_is_dropped_as_soon_as_it_is_accepted() {
    let (folder, table) = (tempfile::tempdir().unwrap(), Table::default());
    let cache = cache();
    table.set_down(true);
    for round in 0..200 {
        let behind = reopen(&cache, folder.path(), &table).await;
        assert_eq!(behind.replayed().values, round);
        behind.put(&format!("k{round}"), 1).await.unwrap();
        drop(behind);
    }
}

#[tokio::test]
async fn graceful_end_leaves_nothing_to_be_written_again() {
    let (folder, table) = (tempfile::tempdir().unwrap(), Table::default());
    let cache = cache();
    let behind = open(&cache, folder.path(), &table).await;
    let version = behind.put("k", 1).await.unwrap();
    behind.shutdown(LIMIT).await.unwrap();
    let (clock, _) = Clock::manual(Timestamp::from_micros(1));
    let journaled = journaled(&cache, folder.path(), &table).clock(clock);
    let behind = journaled.open().await.unwrap();
    assert_eq!(behind.replayed().values, 0);
    assert!(behind.put("k", 2).await.unwrap() > version);
}

#[tokio::test]
async fn what_an_ended_handle_could_not_write_is_written_by_the_next() {
    let (folder, table) = (tempfile::tempdir().unwrap(), Table::default());
    let cache = cache();
    let behind = open(&cache, folder.path(), &table).await;
    table.set_down(true);
    behind.put("k", 1).await.unwrap();
    let limit = std::time::Duration::from_millis(20);
    assert_eq!(behind.shutdown(limit).await.unwrap_err().left(), 1);
    table.set_down(false);
    let behind = open(&cache, folder.path(), &table).await;
    behind.shutdown(LIMIT).await.unwrap();
    assert_eq!(table.get("k"), Some(1));
}

#[tokio::test]
async fn file_is_kept_while_a_value_in_it_waits() {
    let (folder, table) = (tempfile::tempdir().unwrap(), Table::default());
    let cache = cache();
    let behind = open(&cache, folder.path(), &table).await;
    table.set_down(true);
    for value in 0..240 {
        behind.put("hot", value).await.unwrap();
        // What lies in the oldest file gives way to a newer one, while another
        // waits in a file between that and the last.
        match value {
            0 | 200 => _ = behind.put("first", value).await.unwrap(),
            100 => _ = behind.put("cold", value).await.unwrap(),
            _ => {}
        }
    }
    drop(behind);
    let behind = reopen(&cache, folder.path(), &table).await;
    assert_eq!(behind.replayed().values, 3);
    assert_eq!(load(&cache, &table, "first").await, Some(200));
    assert_eq!(load(&cache, &table, "cold").await, Some(100));
    assert_eq!(load(&cache, &table, "hot").await, Some(239));
}

#[tokio::test]
async fn journal_stays_short_while_one_value_cannot_be_written() {
    let (folder, table) = (tempfile::tempdir().unwrap(), Table::default());
    let cache = cache();
    let behind = open(&cache, folder.path(), &table).await;
    table.set_down(true);
    behind.put("first", 1).await.unwrap();
    for value in 0..2_000 {
        behind
            .put(&format!("hot{}", value % 3), value)
            .await
            .unwrap();
    }
    // 2,001 records are fifty times as long.
    eventually(LIMIT, async || size(folder.path()) < 20_000).await;
    drop(behind);
    let behind = reopen(&cache, folder.path(), &table).await;
    assert_eq!(behind.replayed().values, 4);
    assert_eq!(load(&cache, &table, "first").await, Some(1));
    assert_eq!(load(&cache, &table, "hot1").await, Some(1_999));
    table.set_down(false);
    behind.shutdown(LIMIT).await.unwrap();
    assert_eq!(table.get("first"), Some(1));
}

#[tokio::test]
async fn torn_end_is_told_and_costs_nothing_that_was_acknowledged() {
    let (folder, table) = (tempfile::tempdir().unwrap(), Table::default());
    let cache = cache();
    let behind = open(&cache, folder.path(), &table).await;
    table.set_down(true);
    behind.put("k", 1).await.unwrap();
    drop(behind);
    reopen(&cache, folder.path(), &table).await;
    let entries = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|it| it.unwrap().path());
    let last = entries.filter(|it| it.extension().is_some()).max().unwrap();
    let mut bytes = std::fs::read(&last).unwrap();
    bytes.extend(b"MXJr half of a record");
    std::fs::write(&last, bytes).unwrap();
    let behind = reopen(&cache, folder.path(), &table).await;
    assert_eq!((behind.replayed().values, behind.replayed().torn), (1, 21));
}

#[tokio::test]
async fn value_that_this_release_cannot_read_keeps_the_journal_as_it_is() {
    let (folder, table) = (tempfile::tempdir().unwrap(), Table::default());
    let texts = Hub::builder()
        .build()
        .cache::<String>(CacheSpec::new("number", 1));
    let ack = Ack::Journal(Journal::folder(folder.path()));
    let never = |_| std::future::pending();
    let behind = Behind::builder(&texts, ack, never, |_| std::future::pending());
    let behind = behind.open().await.unwrap();
    behind.put("k", "text".to_owned()).await.unwrap();
    drop(behind);
    let cache = cache();
    for _ in 0..2 {
        let error = eventually(LIMIT, async || {
            let opened = journaled(&cache, folder.path(), &table).open().await;
            opened
                .err()
                .filter(|it| !matches!(it, JournalError::InUse { .. }))
        })
        .await;
        assert!(matches!(error, JournalError::Decode { .. }), "{error:?}");
    }
}
