//! A cluster that loses masters and moves slots.

use std::time::Duration;

use maxscale_core::redis::{Command, Event, Redis, Reply, Subscription};
use maxscale_tests::{RedisCluster, RedisServer, eventually};
use tokio::time::{Instant, interval, timeout};

use super::charges::{Charges, copied};
use super::outage::is_back;
use super::past::{all, tell};
use super::{SOON, cluster_config, connect};

/// For a failover on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

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
        calls.losing(lost, cluster.servers(), lost.kill()).await;
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
        let fault = async { lost.pause() };
        calls.losing(lost, cluster.servers(), fault).await;
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

const PAIR: [&str; 2] = ["{slot}a", "{slot}b"];

/// The slot of the pair on its way from one master to another.
struct Move<'a> {
    from: &'a RedisServer,
    to: &'a RedisServer,
    slot: String,
}

impl<'a> Move<'a> {
    /// Both keys of the pair are there, and none is moved yet.
    async fn begin(cluster: &'a RedisCluster, redis: &Redis) -> Self {
        for key in PAIR {
            let set = Command::new("SET").key(key).arg(key);
            redis.command(set).await.unwrap();
        }
        let from = cluster.master_of(PAIR[0]).await.unwrap();
        let masters = [cluster.master_of("a").await, cluster.master_of("b").await];
        let mut masters = masters.into_iter().flatten();
        let to = masters.find(|it| it.url() != from.url()).unwrap();
        let slot = tell(from, &format!("CLUSTER KEYSLOT {}", PAIR[0])).await;
        let slot = slot.trim_start_matches(':').to_owned();
        let (from_id, to_id) = (id(from).await, id(to).await);
        tell(to, &format!("CLUSTER SETSLOT {slot} IMPORTING {from_id}")).await;
        tell(from, &format!("CLUSTER SETSLOT {slot} MIGRATING {to_id}")).await;
        Self { from, to, slot }
    }

    async fn key(&self, key: &str) {
        let url = self.to.url();
        let port = url.rsplit(':').next().unwrap();
        tell(self.from, &format!("MIGRATE 127.0.0.1 {port} {key} 0 5000")).await;
    }

    async fn end(self) {
        let to = id(self.to).await;
        for server in [self.to, self.from] {
            tell(server, &format!("CLUSTER SETSLOT {} NODE {to}", self.slot)).await;
        }
    }
}

async fn id(server: &RedisServer) -> String {
    tell(server, "CLUSTER MYID").await
}

fn value(key: &str) -> Reply {
    Reply::Bytes(key.to_owned().into())
}

async fn get(redis: &Redis, keys: &[&str]) -> Vec<Reply> {
    let start = Command::new("MGET").timeout(SOON);
    let get = keys.iter().fold(start, |it, key| it.key(*key));
    redis.command(get).await.unwrap().into_array().unwrap()
}

/// How often a server did something, by what stands in its INFO.
async fn count(server: &RedisServer, section: &str, before: &str) -> u64 {
    let info = all(server, &format!("INFO {section}")).await;
    let Some((_, count)) = info.split_once(before) else {
        return 0;
    };
    let digits = count.split(|it: char| !it.is_ascii_digit()).next();
    digits.unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_follow_a_slot_while_it_is_moved() {
    let cluster = RedisCluster::start().await;
    let redis = connect(cluster_config(&cluster).timeout(SOON)).await;
    let [a, b] = PAIR;
    let both = [value(a), value(b)];
    let refused = "errorstat_TRYAGAIN:count=";

    // One key is there already, the other is not.
    let moving = Move::begin(&cluster, &redis).await;
    moving.key(a).await;
    assert_eq!(get(&redis, &[a]).await, [value(a)]);
    assert_eq!(get(&redis, &[b]).await, [value(b)]);
    // A call for both waits until they are together again.
    let (found, ()) = tokio::join!(get(&redis, &PAIR), async {
        let waits = async || count(moving.from, "errorstats", refused).await > 0;
        eventually(SOON, waits).await;
        moving.key(b).await;
    });
    assert_eq!(found, both);

    // Also when the new one has to be asked, and lacks a key for long.
    tell(moving.to, &format!("ASKING\r\nDEL {b}")).await;
    let (found, ()) = tokio::join!(get(&redis, &PAIR), async {
        let waits = async || count(moving.to, "errorstats", refused).await > 20;
        eventually(SOON, waits).await;
        tell(moving.to, &format!("ASKING\r\nSET {b} {b}")).await;
    });
    assert_eq!(found, both);

    // From here on the old one says that the slot has moved for good.
    moving.end().await;
    assert_eq!(get(&redis, &PAIR).await, both);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_serves_what_is_not_asked_for_each_redirect() {
    let cluster = RedisCluster::start().await;
    let redis = connect(cluster_config(&cluster).timeout(SOON)).await;
    let moving = Move::begin(&cluster, &redis).await;
    moving.key(PAIR[0]).await;
    let asked = async || {
        let mut asked = 0;
        for server in cluster.servers() {
            asked += count(server, "commandstats", "cmdstat_cluster|slots:calls=").await;
        }
        asked
    };
    let (start, before) = (Instant::now(), asked().await);
    for _ in 0..500 {
        assert_eq!(get(&redis, &PAIR[..1]).await, [value(PAIR[0])]);
    }
    let (asked, most) = (asked().await - before, 2 + start.elapsed().as_secs());
    assert!(asked <= most, "asked {asked} times, for 500 redirects");
}
