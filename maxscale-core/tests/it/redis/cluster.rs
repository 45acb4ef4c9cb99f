//! A cluster that loses masters and moves slots.

use std::time::Duration;

use maxscale_core::redis::{Command, Event, Redis, Reply, Subscription};
use maxscale_tests::{RedisCluster, RedisServer, eventually};
use tokio::time::{interval, timeout};

use super::charges::{Charges, copied};
use super::outage::is_back;
use super::past::{all, tell};
use super::{SOON, cluster_config, connect};

/// For a failover on a busy machine.
const LIMIT: Duration = Duration::from_secs(20);

/// A master that passes messages on to the one that the subscription is at.
async fn not_listened_at(cluster: &RedisCluster) -> &RedisServer {
    for server in cluster.servers() {
        let is_master = all(server, "INFO replication")
            .await
            .contains("role:master");
        if is_master && !all(server, "CLIENT LIST").await.contains(" sub=1") {
            return server;
        }
    }
    panic!("all three have the one subscription");
}

/// Publishes until a message comes through, and if so `gap` before it.
async fn message(events: &mut Subscription, redis: &Redis, gap: bool) {
    let mut told = !gap;
    let heard = async {
        while let Some(event) = events.next().await {
            told |= event == Event::Gap;
            if matches!(event, Event::Message(_)) && told {
                return;
            }
        }
    };
    let publish = async {
        let mut pace = interval(Duration::from_millis(50));
        loop {
            pace.tick().await;
            let publish = Command::new("PUBLISH").arg("news").arg("more");
            let _ = redis.command(publish).await;
        }
    };
    tokio::select! {
        heard = timeout(SOON, heard) => heard.expect("a message in time"),
        () = publish => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cluster_that_loses_a_master_is_called_again_and_charges_nothing_twice() {
    let cluster = RedisCluster::start().await;
    let redis = connect(cluster_config(&cluster)).await;
    let mut events = redis.subscribe("news");
    message(&mut events, &redis, false).await;

    let lost = not_listened_at(&cluster).await;
    copied(&redis, cluster.servers()).await;
    let charges = Charges::run(&redis, async |calls| {
        calls.more(500).await;
        lost.kill().await;
        cluster.wait_until_served(LIMIT).await;
        is_back(&redis).await;
    });
    charges.await.judge(&redis, "a master was killed").await;
    message(&mut events, &redis, true).await;

    // The lost one comes back as a replica.
    lost.restart().await;
    cluster.wait_until_served(LIMIT).await;
    is_back(&redis).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cluster_whose_master_hangs_is_called_again_and_charges_nothing_twice() {
    let cluster = RedisCluster::start().await;
    let redis = connect(cluster_config(&cluster)).await;
    let lost = cluster.master_of("charges:0").await.unwrap();
    copied(&redis, cluster.servers()).await;
    let charges = Charges::run(&redis, async |calls| {
        calls.more(500).await;
        lost.pause();
        eventually(LIMIT, async || !redis.is_up()).await;
        // Another one serves its slots in the end.
        assert!(redis.wait_ready(LIMIT).await);
        // With what it had not read yet, and no longer may do.
        lost.resume();
        calls.more(500).await;
        is_back(&redis).await;
    });
    charges.await.judge(&redis, "a master hung").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_follow_a_slot_while_it_is_moved() {
    let cluster = RedisCluster::start().await;
    let redis = connect(cluster_config(&cluster)).await;
    let (a, b) = ("{slot}a", "{slot}b");
    let get = async |keys: &[&str]| {
        let start = Command::new("MGET");
        let get = keys.iter().fold(start, |it, key| it.key(*key));
        redis.command(get).await.map(|it| it.into_array().unwrap())
    };
    for key in [a, b] {
        let set = Command::new("SET").key(key).arg(key);
        redis.command(set).await.unwrap();
    }
    let value = |key: &str| Reply::Bytes(key.to_owned().into());

    let from = cluster.master_of(a).await.unwrap();
    let masters = [cluster.master_of("a").await, cluster.master_of("b").await];
    let mut masters = masters.into_iter().flatten();
    let to = masters.find(|it| it.url() != from.url()).unwrap();
    let slot = tell(from, &format!("CLUSTER KEYSLOT {a}")).await;
    let slot = slot.trim_start_matches(':');
    let (from_id, to_id) = (
        tell(from, "CLUSTER MYID").await,
        tell(to, "CLUSTER MYID").await,
    );
    tell(to, &format!("CLUSTER SETSLOT {slot} IMPORTING {from_id}")).await;
    tell(from, &format!("CLUSTER SETSLOT {slot} MIGRATING {to_id}")).await;
    let to_url = to.url();
    let to_port = to_url.rsplit(':').next().unwrap();
    let migrate = |key| format!("MIGRATE 127.0.0.1 {to_port} {key} 0 5000");

    // One key is there already, the other is not.
    tell(from, &migrate(a)).await;
    assert_eq!(get(&[a]).await.unwrap(), [value(a)]);
    assert_eq!(get(&[b]).await.unwrap(), [value(b)]);
    // A call for both waits until they are together again.
    let pair = [a, b];
    let (both, ()) = tokio::join!(get(&pair), async {
        let refused = async || all(from, "INFO errorstats").await.contains("TRYAGAIN");
        eventually(SOON, refused).await;
        tell(from, &migrate(b)).await;
    });
    assert_eq!(both.unwrap(), [value(a), value(b)]);
    // From here on the old one says that the slot has moved for good.
    for server in [to, from] {
        tell(server, &format!("CLUSTER SETSLOT {slot} NODE {to_id}")).await;
    }
    assert_eq!(get(&[a, b]).await.unwrap(), [value(a), value(b)]);
}
