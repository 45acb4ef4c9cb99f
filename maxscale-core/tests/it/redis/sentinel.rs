//! A primary whose replica takes over.

use std::time::Duration;

use maxscale_core::redis::{Event, Redis, RedisConfig};
use maxscale_tests::{RedisSentinels, eventually};
use tokio::time::timeout;

use super::charges::{Charges, copied};
use super::outage::is_back;
use super::past::{host, tell};
use super::{SOON, TIMEOUT, connect};

/// For a failover on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

fn config(group: &RedisSentinels) -> RedisConfig {
    let urls = group.urls();
    let hosts: Vec<_> = urls.iter().map(|url| host(url)).collect();
    let (hosts, name) = (hosts.join(","), RedisSentinels::NAME);
    let url = format!("redis-sentinel://{hosts}/{name}");
    RedisConfig::new(&url).unwrap().timeout(TIMEOUT)
}

#[tokio::test(flavor = "multi_thread")]
async fn replica_that_sentinels_promote_is_called_and_nothing_is_charged_twice() {
    let group = RedisSentinels::start().await;
    let redis = connect(config(&group)).await;
    let mut events = redis.subscribe("news");
    let next = timeout(SOON, events.next()).await;
    assert_eq!(next.unwrap(), Some(Event::Reconnected));

    let lost = group.primary().await.unwrap();
    copied(&redis, group.servers()).await;
    let charges = Charges::run(&redis, async |calls| {
        calls.more(500).await;
        calls.losing(lost, group.servers(), lost.kill()).await;
        eventually(LIMIT, async || group.primary().await).await;
        is_back(&redis).await;
    });
    charges.await.judge(&redis, "a primary was killed").await;
    for expected in [Event::Gap, Event::Reconnected] {
        let next = timeout(SOON, events.next()).await;
        assert_eq!(next.unwrap(), Some(expected));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn primary_that_was_replaced_while_it_hung_is_not_called_again() {
    let group = RedisSentinels::start().await;
    // Two of three are enough to say who is the primary.
    group.sentinels()[0].kill().await;
    let redis = connect(config(&group)).await;
    let lost = group.primary().await.unwrap();
    copied(&redis, group.servers()).await;
    let charges = Charges::run(&redis, async |calls| {
        calls.more(500).await;
        let fault = async { lost.pause() };
        calls.losing(lost, group.servers(), fault).await;
        eventually(LIMIT, async || group.primary().await).await;
        is_back(&redis).await;
        // It takes itself for the primary until the sentinels tell it.
        lost.resume();
        calls.more(2_000).await;
        is_back(&redis).await;
    });
    charges.await.judge(&redis, "a primary hung").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sentinels_have_a_login_of_their_own() {
    let group = RedisSentinels::start().await;
    for sentinel in group.sentinels() {
        tell(sentinel, "ACL SETUSER watcher on >hunter2 +@all").await;
        tell(sentinel, "ACL SETUSER default >other").await;
    }
    let refused = Redis::open(config(&group));
    connect(config(&group).sentinel_login("watcher", "hunter2")).await;
    assert!(!refused.is_up());
}
