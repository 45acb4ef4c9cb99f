//! Redis servers that belong together.

use std::time::Duration;

use maxscale_tests::{RedisCluster, RedisSentinels, RedisServer, eventually};

use crate::redis::ask;

const LIMIT: Duration = Duration::from_secs(60);

/// Sets a key, and returns the replica once that has it too.
async fn set_on_both<'a>(primary: &RedisServer, servers: &'a [RedisServer]) -> &'a RedisServer {
    ask(&primary.url(), "SET key 42").await.unwrap();
    eventually(LIMIT, async || {
        for server in servers.iter().filter(|it| it.url() != primary.url()) {
            if ask(&server.url(), "DBSIZE").await.unwrap() == ":1" {
                return Some(server);
            }
        }
        None
    })
    .await
}

#[tokio::test]
async fn a_cluster_that_lost_a_master_serves_its_keys_from_the_replica() {
    let cluster = RedisCluster::start().await;
    let lost = cluster.master_of("key").await.unwrap();
    let replica = set_on_both(lost, cluster.servers()).await;

    // Nobody takes over until it was seen that nobody is there.
    replica.pause();
    lost.kill().await;
    assert!(cluster.master_of("key").await.is_none());
    replica.resume();
    cluster.wait_until_served(LIMIT).await;

    let now = cluster.master_of("key").await.unwrap();
    assert_ne!(now.url(), lost.url());
    assert_eq!(ask(&now.url(), "GET key").await.unwrap(), "$2\r\n42");
}

#[tokio::test]
async fn sentinels_promote_the_replica_of_a_killed_primary_which_then_follows() {
    let group = RedisSentinels::start().await;
    let lost = group.primary().await.unwrap();
    let replica = set_on_both(lost, group.servers()).await;

    // Nobody takes over until it was seen that nobody is there.
    replica.pause();
    lost.kill().await;
    assert!(group.primary().await.is_none());
    replica.resume();
    let now = eventually(LIMIT, async || group.primary().await).await;

    assert_ne!(now.url(), lost.url());
    assert_eq!(ask(&now.url(), "GET key").await.unwrap(), "$2\r\n42");
    lost.restart().await;
    eventually(LIMIT, async || {
        let said = ask(&lost.url(), "SET key 43").await.unwrap();
        said.starts_with("-READONLY").then_some(()).ok_or(said)
    })
    .await;
}
