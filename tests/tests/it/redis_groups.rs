//! Redis servers that belong together.

use std::time::Duration;

use maxscale_tests::{RedisCluster, RedisSentinels, RedisServer, eventually};

use crate::redis::ask;

const LIMIT: Duration = Duration::from_secs(30);

/// Sets a key and waits until as many servers have it.
async fn set_on_both(primary: &RedisServer, servers: &[RedisServer]) {
    ask(&primary.url(), "SET key 42").await.unwrap();
    eventually(LIMIT, async || {
        let mut have = 0;
        for server in servers {
            have += usize::from(ask(&server.url(), "DBSIZE").await.unwrap() == ":1");
        }
        have == 2
    })
    .await;
}

#[tokio::test]
async fn a_cluster_that_lost_a_master_serves_its_keys_from_the_replica() {
    let cluster = RedisCluster::start().await;
    let lost = cluster.master_of("key").await.unwrap();
    set_on_both(lost, cluster.servers()).await;

    lost.kill().await;
    assert!(cluster.master_of("key").await.is_none());
    cluster.wait_until_served(LIMIT).await;

    let now = cluster.master_of("key").await.unwrap();
    assert_ne!(now.url(), lost.url());
    assert_eq!(ask(&now.url(), "GET key").await.unwrap(), "$2\r\n42");
}

#[tokio::test]
async fn sentinels_promote_the_replica_of_a_killed_primary_which_then_follows() {
    let group = RedisSentinels::start().await;
    let lost = group.primary().await.unwrap();
    set_on_both(lost, group.servers()).await;

    lost.kill().await;
    assert!(group.primary().await.is_none());
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
