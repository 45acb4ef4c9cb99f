//! What a client may do to a server, and for how long.

use std::time::Duration;

use maxscale_core::serve::Cause;
use maxscale_core::telemetry::Metrics;
use maxscale_tests::eventually;
use tokio::time::{Instant, interval};

use super::app::Running;
use super::wire::{LIMIT, Wire};

/// A client that is held up still sends its head in that time.
const HEAD: Duration = Duration::from_secs(2);

#[tokio::test]
async fn who_asks_is_told_to_the_service() {
    let running = Running::plain().await;
    let mut wire = Wire::connect(running.address).await;
    wire.get("/peer").await;
    wire.until("\r\n\r\n127.0.0.1:").await;
}

#[tokio::test]
async fn head_that_comes_byte_by_byte_is_cut() {
    let metrics = Metrics::new();
    let meter = metrics.meter("test");
    let limit = Duration::from_millis(500);
    let running = Running::start(|it| it.head_limit(limit).meter(&meter), |it| it).await;
    let start = Instant::now();
    let mut wire = Wire::connect(running.address).await;
    let mut pace = interval(Duration::from_millis(50));
    let head = b"GET / HTTP/1.1\r\nx-long: "
        .iter()
        .chain([b'x'].iter().cycle());
    for byte in head {
        pace.tick().await;
        if !wire.try_send(&[*byte]).await {
            break;
        }
        assert!(start.elapsed() < LIMIT, "the head goes on and on");
    }
    assert!(start.elapsed() >= limit);
    eventually(LIMIT, async || running.connections.open() == 0).await;
    let page = metrics.exposition().unwrap();
    let counted = r#"maxscale_server_connections_slow_total{server="main"} 1"#;
    assert!(page.contains(counted), "{page}");
}

#[tokio::test]
async fn client_that_says_nothing_is_cut() {
    let limit = Duration::from_millis(100);
    let running = Running::start(|it| it.head_limit(limit), |it| it).await;
    let wire = Wire::connect(running.address).await;
    assert_eq!(wire.rest().await, "");
}

#[tokio::test]
async fn kept_connection_outlives_the_limit_of_a_head_and_not_its_own() {
    let (head, idle) = (HEAD, 2 * HEAD);
    let running = Running::start(|it| it.head_limit(head).idle_limit(idle), |it| it).await;
    let mut wire = Wire::connect(running.address).await;
    let start = Instant::now();
    wire.get("/").await;
    wire.until("here\n").await;
    assert_eq!(wire.rest().await, "");
    let stood = start.elapsed();
    assert!(stood >= idle, "{stood:?}");
}

#[tokio::test]
async fn request_may_take_longer_than_a_head() {
    let running = Running::start(|it| it.head_limit(HEAD).idle_limit(HEAD), |it| it).await;
    let mut wire = Wire::connect(running.address).await;
    let slow = 2 * HEAD.as_millis();
    wire.get(&format!("/slow/{slow}")).await;
    wire.until("done\n").await;
}

#[tokio::test]
async fn connection_beyond_the_limit_waits_for_another_one_s_end() {
    let metrics = Metrics::new();
    let meter = metrics.meter("test");
    let running = Running::start(|it| it.connections(2).meter(&meter), |it| it).await;
    let first = Wire::connect(running.address).await;
    let mut second = Wire::connect(running.address).await;
    second.get("/").await;
    second.until("here\n").await;
    let mut third = Wire::connect(running.address).await;
    third.get("/").await;
    // The second one has an answer each time; the third, sent before, has none.
    for _ in 0..20 {
        second.get("/").await;
        second.until("here\n").await;
    }
    assert_eq!(
        (running.connections.open(), running.connections.limit()),
        (2, 2)
    );
    let page = metrics.exposition().unwrap();
    let counted = r#"maxscale_server_connections_full_total{server="main"} 1"#;
    assert!(page.contains(counted), "{page}");

    drop(first);
    third.until("here\n").await;
    running.stop.ask(Cause::Interrupt);
    assert!(running.ended().await.is_clean());
}
