//! Values that only this process keeps.

use std::time::Duration;

use maxscale_cache::{Hub, Invalidated, Near};
use maxscale_core::redis::{Command, Reply};
use maxscale_tests::{Proxy, RedisServer, Way, eventually};
use tokio::time::advance;

use crate::program::{connect, patient};
use crate::source::LIMIT;

const SECOND: Duration = Duration::from_secs(1);

fn near(hub: &Hub) -> Near<u64> {
    hub.near("seen", SECOND)
}

fn alone() -> Near<u64> {
    near(&Hub::builder().build())
}

fn keep(near: &Near<u64>, id: &str, value: u64) -> bool {
    near.keep(&near.begin(id), |_| value)
}

fn has(near: &Near<u64>, id: &str) -> bool {
    near.get(id).is_some()
}

#[tokio::test(start_paused = true)]
async fn age_counts_from_before_the_source_was_asked() {
    let near = alone();
    let begun = near.begin("k");
    advance(SECOND / 2).await;
    assert!(near.keep(&begun, |_| 1));
    advance(SECOND / 2 - Duration::from_millis(1)).await;
    assert_eq!(near.get("k").as_deref(), Some(&1));
    advance(Duration::from_millis(1)).await;
    assert!(!has(&near, "k"));
}

#[tokio::test(start_paused = true)]
async fn what_is_put_together_is_as_old_as_the_older() {
    let near = alone();
    assert!(keep(&near, "k", 1));
    advance(SECOND / 2).await;
    assert!(near.keep(&near.begin("k"), |known| known.copied().unwrap_or(0) + 10));
    assert_eq!(near.get("k").as_deref(), Some(&11));
    advance(SECOND / 2).await;
    assert!(!has(&near, "k"));
    // What is over takes no part.
    assert!(near.keep(&near.begin("k"), |known| known.copied().unwrap_or(0) + 10));
    assert_eq!(near.get("k").as_deref(), Some(&10));
}

#[tokio::test(start_paused = true)]
async fn what_was_asked_before_a_drop_is_not_kept_after_it() {
    let near = alone();
    assert!(keep(&near, "k", 1));
    let begun = near.begin("k");
    assert_eq!(near.invalidate("k").await, Invalidated::Everywhere);
    assert!(!has(&near, "k"));
    assert!(!near.keep(&begun, |_| 1));
    assert!(!has(&near, "k"));
    assert!(keep(&near, "k", 2));
}

/// Returns once values of `near` are served.
async fn wait_until_heard(near: &Near<u64>) {
    eventually(LIMIT, async || {
        keep(near, "warm", 0);
        has(near, "warm")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drop_reaches_another_process_and_l2_has_no_key_of_it() {
    let server = RedisServer::start().await;
    let hubs = [
        patient(connect(&server.url()).await).build(),
        patient(connect(&server.url()).await).build(),
    ];
    // Long enough to tell a drop from the end of its time.
    let [here, there] = hubs.each_ref().map(|hub| hub.near("seen", 600 * SECOND));
    wait_until_heard(&here).await;
    wait_until_heard(&there).await;
    for n in 0..100 {
        let id = n.to_string();
        eventually(LIMIT, async || {
            keep(&there, &id, n);
            has(&there, &id)
        })
        .await;
        assert_eq!(here.invalidate(&id).await, Invalidated::Everywhere);
        eventually(LIMIT, async || !has(&there, &id)).await;
    }
    let redis = connect(&server.url()).await;
    let keys = redis.command(Command::new("KEYS").arg("*seen*")).await;
    assert_eq!(keys.unwrap(), Reply::Array(Vec::new()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_served_while_the_feed_is_late() {
    let server = RedisServer::start().await;
    let proxy = Proxy::start(server.url()).await;
    let hub = patient(connect(&proxy.url()).await).build();
    let near = hub.near("seen", 600 * SECOND);
    wait_until_heard(&near).await;

    proxy.black_hole(Way::ToClient);
    eventually(LIMIT, async || {
        keep(&near, "k", 1);
        !has(&near, "k")
    })
    .await;
    proxy.heal().await;
    wait_until_heard(&near).await;
}
