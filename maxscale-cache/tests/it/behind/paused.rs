//! A process that has the stream is frozen, and taken over from.

use std::time::Duration;

use maxscale_cache::behind::BehindError;
use maxscale_tests::{RedisServer, eventually};
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

#[tokio::test(flavor = "multi_thread")]
async fn owner_that_was_frozen_beyond_its_lease_writes_nothing_more() {
    let (rows, server) = (
        RedisServer::start().await,
        RedisServer::start_durable().await,
    );
    let place = Place::Stream(server.url());
    let database = Database::connect(&rows.url(), "successor").await;
    database.set_closed(true).await;
    let variables = [(DATABASE, rows.url()), place.variable()];
    let frozen = start("behind::paused::program_that_is_frozen", &variables);
    frozen.wait_for_line("accepted", LIMIT * 3).await;
    frozen.pause();

    let behind = database.open(&place.ack()).await;
    assert_eq!(behind.replayed().values, 1);
    database.set_closed(false).await;
    behind.put("k", 2).await.unwrap();
    eventually(LIMIT, async || behind.pending() == 0).await;
    let before = database.writers().await.len();

    raise(&connect(&rows.url()).await, "taken over").await;
    frozen.resume();
    frozen.wait_for_line("lost, 0 left", LIMIT * 3).await;
    let writers = database.writers().await;
    assert!(
        before > 0 && !writers.contains(&"frozen".to_owned()),
        "{writers:?}"
    );
    assert_eq!(database.taken("k").await.last(), Some(&2));
    // The successor has it still.
    behind.put("k", 4).await.unwrap();
    behind.shutdown(LIMIT).await.unwrap();
    assert_eq!(database.taken("k").await.last(), Some(&4));
}
