//! A process that has the stream is frozen, and taken over from.

use std::time::Duration;

use maxscale_cache::behind::{Behind, BehindError};
use maxscale_tests::{Process, RedisServer, eventually};
use tokio::time::sleep;

use super::database::Database;
use super::place::Place;
use crate::program::{connect, raise, start, variable, wait_for};
use crate::source::LIMIT;

const DATABASE: &str = "MAXSCALE_TEST_DATABASE";

/// Accepts one value, and then tries to write it for as long as it may.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the program that other tests start"]
async fn program_that_is_frozen() {
    let Some(url) = variable(DATABASE) else {
        return;
    };
    let place = Place::told().unwrap();
    let database = Database::connect(&url, "frozen").await;
    let behind = database.open(&place.ack()).await;
    behind.put("k", 1).await.unwrap();
    println!("accepted");
    wait_for(&connect(&url).await, "taken over", LIMIT * 6).await;
    eventually(LIMIT, async || {
        let refused = behind.put("k", 3).await;
        matches!(refused, Err(BehindError::Lost))
    })
    .await;
    // As many attempts of the sink as fit in.
    sleep(Duration::from_millis(200)).await;
    println!("lost, {} left", behind.pending());
}

/// A process that has accepted a value and is frozen, and whoever took the
/// stream over from it.
struct TakenOver {
    frozen: Process,
    database: Database,
    successor: Behind<u64>,
    /// Held for their drop.
    _servers: [RedisServer; 2],
}

// === impl TakenOver ===

impl TakenOver {
    /// The process is frozen when it has said `line`; the database has this
    /// flag until then.
    async fn start(flag: &'static str, line: &str) -> Self {
        let servers = [
            RedisServer::start().await,
            RedisServer::start_durable().await,
        ];
        let place = Place::Stream(servers[1].url());
        let database = Database::connect(&servers[0].url(), "successor").await;
        database.set(flag, true).await;
        let variables = [(DATABASE, servers[0].url()), place.variable()];
        let frozen = start("behind::paused::program_that_is_frozen", &variables);
        frozen.wait_for_line("accepted", LIMIT * 3).await;
        frozen.wait_for_line(line, LIMIT * 3).await;
        frozen.pause();
        // It may stand still in the midst of a call, which ends late.
        database.frozen().await;
        let successor = database.open(&place.ack()).await;
        assert_eq!(successor.replayed().values, 1);
        if flag == Database::CLOSED {
            database.set(flag, false).await;
        }
        eventually(LIMIT, async || successor.pending() == 0).await;
        successor.put("k", 2).await.unwrap();
        eventually(LIMIT, async || successor.pending() == 0).await;
        let redis = connect(&servers[0].url()).await;
        raise(&redis, "taken over").await;
        database.set(flag, false).await;
        Self {
            frozen,
            database,
            successor,
            _servers: servers,
        }
    }

    /// Lets the process go on until it knows, and the successor end.
    async fn end(&self) {
        self.frozen.resume();
        self.frozen.wait_for_line("lost, 0 left", LIMIT * 3).await;
        assert_eq!(self.database.taken("k").await.last(), Some(&2));
        // The successor has it still.
        self.successor.put("k", 4).await.unwrap();
        self.successor.shutdown(LIMIT).await.unwrap();
        assert_eq!(self.database.taken("k").await.last(), Some(&4));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn owner_that_was_frozen_beyond_its_lease_writes_nothing_more() {
    let taken_over = TakenOver::start(Database::CLOSED, "accepted").await;
    taken_over.end().await;
    let writers = taken_over.database.writers().await;
    let is_frozen = |writer: &String| writer == "frozen";
    assert!(
        !writers.is_empty() && !writers.iter().any(is_frozen),
        "{writers:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn call_that_had_begun_ends_late_with_a_version_that_counts_no_more() {
    let taken_over = TakenOver::start(Database::HELD, "held").await;
    let database = &taken_over.database;
    taken_over.frozen.resume();
    eventually(LIMIT, async || {
        let writers = database.writers().await;
        writers.contains(&Database::LATE.to_owned()).then_some(())
    })
    .await;
    taken_over.end().await;
    assert_eq!(database.taken("k").await, [1, 2, 4]);
    assert_eq!(database.field("k", "contradiction").await, None);
    // Its own one, and the successor's three.
    eventually(LIMIT, async || database.field("k", "told").await == Some(4)).await;
}
