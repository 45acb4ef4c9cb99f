//! Reads from replicas that are behind.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use maxscale_core::clock::Clock;
use maxscale_core::fact::{RegionId, VirtualShard};
use maxscale_core::id::KeyspaceTag;
use maxscale_core::keys::{KeyRing, Secret};
use maxscale_shard::fleet::NodeSpec;
use maxscale_shard::{
    Database, FleetConfig, Freshness, Keyspace, ReadPolicy, Router, Shard, ShardError, SlotState,
    Statement, Topology, TxOptions, Vindex, Watermark, Work, sql,
};
use maxscale_tests::{PostgresServer, eventually};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::support::{LIMIT, SHARDS, open, options};

const READ: TxOptions = TxOptions::new();

/// How far behind a replica is.
const DELAY: Duration = Duration::from_millis(500);

/// A primary, a replica of it, and a router over both.
struct Pair {
    router: Router,
    entries: Vec<NodeSpec>,
    primary: PostgresServer,
    replica: PostgresServer,
}

impl Pair {
    async fn new() -> Self {
        let primary = PostgresServer::start().await;
        let replica = primary.replica().await;
        let (router, entries) = over(&primary, &[&replica]).await;
        Self {
            router,
            entries,
            primary,
            replica,
        }
    }

    fn shard(&self) -> Shard {
        self.router.virtual_shard(VirtualShard::new(1)).unwrap()
    }

    /// Writes that the user `id` was here for the `n`th time.
    async fn visit(&self, id: i64, n: i64) -> Watermark {
        let shard = self.shard();
        let done = shard.write(READ.with_watermark(), |tx| {
            Work::new(async move { tx.execute(visit(id, n)).await })
        });
        let done: Result<_, ShardError> = done.await;
        done.unwrap().watermark.unwrap()
    }

    /// How often the user was here, and whether a replica said so.
    async fn seen(&self, id: i64, policy: ReadPolicy) -> (i64, bool) {
        seen(&self.shard(), id, policy).await.unwrap()
    }

    /// Until a replica is read from by who has written so much.
    async fn is_shown(&self, id: i64, mark: Watermark) {
        while !self.seen(id, at_least(mark)).await.1 {
            sleep(Duration::from_millis(1)).await;
        }
    }

    /// Until the replica is known to be as fresh as it gets.
    async fn is_known(&self) {
        let policy = ReadPolicy::Replica { max_lag: LIMIT };
        eventually(LIMIT, async || self.seen(0, policy).await.1).await;
    }
}

/// A router over one node with these servers, and its table.
pub(crate) async fn over(
    primary: &PostgresServer,
    replicas: &[&PostgresServer],
) -> (Router, Vec<NodeSpec>) {
    let mut entries = vec![NodeSpec::parse(&primary.url(), 1).unwrap()];
    for (number, replica) in (1..).zip(replicas) {
        let entry = format!("node-1={}", replica.url());
        NodeSpec::attach(&mut entries, &entry, number).unwrap();
    }
    let map = Topology::even(vec![entries[0].id().clone()], SHARDS).unwrap();
    let keyspace = Keyspace::new(KeyspaceTag::default(), SHARDS, Vindex::Id).unwrap();
    let mut many = options();
    many.connections = 16;
    let router = Router::open(keyspace, map, &entries, many).unwrap();
    let table =
        "CREATE TABLE visit (shard_id integer, id bigint, n bigint, PRIMARY KEY (shard_id, id))";
    let database = router.nodes()[0].database().clone();
    database.execute(sql(table)).await.unwrap();
    (router, entries)
}

pub(crate) fn visit(id: i64, n: i64) -> Statement {
    sql("INSERT INTO visit (shard_id, id, n) VALUES (1, $1, $2)
         ON CONFLICT (shard_id, id) DO UPDATE SET n = excluded.n")
    .bind(id)
    .bind(n)
}

pub(crate) const SEEN: &str =
    "SELECT coalesce((SELECT n FROM visit WHERE shard_id = 1 AND id = $1), 0) AS n,
    pg_is_in_recovery() AS by_replica";

async fn seen(shard: &Shard, id: i64, policy: ReadPolicy) -> Result<(i64, bool), ShardError> {
    let read = shard.read(READ.policy(policy), |tx| {
        Work::new(async move { tx.fetch_one(sql(SEEN).bind(id)).await })
    });
    let row = read.await?;
    Ok((row.get("n")?, row.get("by_replica")?))
}

async fn directly(replica: &Database, id: i64) -> i64 {
    let row = replica.fetch_optional(sql(SEEN).bind(id)).await.unwrap();
    row.unwrap().get("n").unwrap()
}

fn at_least(mark: Watermark) -> ReadPolicy {
    ReadPolicy::AtLeast(mark)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn user_reads_what_the_user_wrote_and_mostly_from_a_replica_once_it_is_older() {
    read_your_writes(500).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: a hundred thousand reads; run by name with --ignored"]
async fn user_reads_what_the_user_wrote_a_hundred_thousand_times() {
    read_your_writes(100_000).await;
}

/// Reads all through the half second in which the replica is behind, and just after
/// it, and then from when it is known to be as far.
async fn read_your_writes(reads: u64) {
    const USERS: i64 = 16;
    let pair = Arc::new(Pair::new().await);
    pair.replica.delay_replay(DELAY).await;
    pair.is_known().await;
    let replica = pair.router.nodes()[0].endpoints()[1].database().clone();
    let counts: Arc<[AtomicU64; 7]> = Arc::default();
    let mut users = JoinSet::new();
    for user in 1..=USERS {
        let (pair, counts, replica) = (pair.clone(), counts.clone(), replica.clone());
        users.spawn(async move {
            let count = |at: usize, how: bool| {
                counts[at].fetch_add(u64::from(how), Ordering::Relaxed);
            };
            let (mut n, share) = (0, reads / u64::try_from(USERS).unwrap());
            let (mut done, mut controlled) = (0, false);
            while done < share || !controlled {
                n += 1;
                let mark = pair.visit(user, n).await;
                let written = Instant::now();
                let mut asked = 0;
                while written.elapsed() < Duration::from_millis(600) {
                    let (found, by_replica) = pair.seen(user, at_least(mark)).await;
                    count(0, true);
                    count(1, found != n);
                    count(2, by_replica);
                    if asked % 8 == 0 {
                        let is_stale = directly(&replica, user).await != n;
                        // Who is told later has learned nothing.
                        let in_time = written.elapsed() < DELAY / 2;
                        count(6, in_time);
                        count(5, in_time && is_stale);
                        controlled |= in_time;
                    }
                    asked += 1;
                }
                timeout(LIMIT, pair.is_shown(user, mark)).await.unwrap();
                // As many as are left, so that a long run is not made of waiting.
                for _ in 0..(share / 8).max(8) {
                    let (found, by_replica) = pair.seen(user, at_least(mark)).await;
                    count(3, true);
                    count(1, found != n);
                    count(4, by_replica);
                    done += 1;
                }
            }
        });
    }
    users.join_all().await;
    let [
        young,
        stale,
        young_replica,
        old,
        old_replica,
        ungated,
        control,
    ] = counts.each_ref().map(|count| count.load(Ordering::Relaxed));
    eprintln!(
        "{stale} stale of {}; by the replica {young_replica} of {young} within 600 ms, \
         {old_replica} of {old} once it had it; ungated {ungated} of {control} stale",
        young + old
    );
    assert_eq!(stale, 0);
    assert!(old_replica * 10 >= old * 6, "{old_replica} of {old}");
    // What the control shows: without the watermark most would be stale.
    assert!(ungated * 2 > control, "{ungated} of {control}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replica_that_shows_a_write_in_a_moment_is_waited_for() {
    let pair = Pair::new().await;
    pair.is_known().await;
    // It is never known beforehand that it shows what was written just now.
    let (begun, mut by_replica, mut n) = (Instant::now(), 0, 0);
    while n < 50 || by_replica <= 10 {
        n += 1;
        assert!(begun.elapsed() < 2 * LIMIT, "{by_replica} of {n}");
        let mark = pair.visit(1, n).await;
        let (found, replica) = pair.seen(1, at_least(mark)).await;
        assert_eq!(found, n);
        by_replica += u32::from(replica);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replica_is_read_from_only_while_it_is_known_to_be_young_enough() {
    let pair = Pair::new().await;
    pair.replica.delay_replay(Duration::from_millis(800)).await;
    pair.is_known().await;
    let begun = Instant::now();
    let (mut n, mut written) = (0, Vec::new());
    let limits = [1_500, 400].map(Duration::from_millis);
    let mut by_replica = [0, 0];
    // It is 800 ms behind, unless nothing was written for a while; or more, on a machine
    // that is busy.
    while begun.elapsed() < Duration::from_secs(4) || by_replica[0] <= 2 * by_replica[1] {
        assert!(begun.elapsed() < 2 * LIMIT, "{by_replica:?}");
        n += 1;
        pair.visit(1, n).await;
        written.push((Instant::now(), n));
        for (max_lag, count) in limits.into_iter().zip(&mut by_replica) {
            let before = Instant::now().checked_sub(max_lag).unwrap();
            let (found, replica) = pair.seen(1, ReadPolicy::Replica { max_lag }).await;
            let must = written.iter().rev().find(|(at, _)| *at <= before);
            assert!(found >= must.map_or(0, |(_, n)| *n), "{found}");
            *count += u32::from(replica);
        }
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_go_to_the_primary_while_the_replica_is_away() {
    let pair = Pair::new().await;
    pair.is_known().await;
    pair.replica.kill().await;
    let any = ReadPolicy::Replica { max_lag: LIMIT };
    let mut n = 0;
    for _ in 0..200 {
        n += 1;
        let mark = pair.visit(1, n).await;
        for policy in [any, at_least(mark)] {
            let (found, by_replica) = pair.seen(1, policy).await;
            assert_eq!((found, by_replica), (n, false));
        }
    }
    pair.replica.restart().await;
    pair.is_known().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watermark_from_before_a_promotion_leads_to_the_new_primary() {
    let pair = Pair::new().await;
    pair.is_known().await;
    let mark = pair.visit(1, 1).await;
    let position = pair.primary.wal_position().await;
    pair.replica.wait_for_replay(position, LIMIT).await;
    pair.primary.kill().await;
    pair.replica.promote().await;
    eventually(LIMIT, async || {
        let found = seen(&pair.shard(), 1, at_least(mark)).await;
        matches!(found, Ok((1, false)))
    })
    .await;
    let later = eventually(LIMIT, async || {
        let shard = pair.shard();
        let write = shard.write(READ.with_watermark(), |tx| {
            Work::new(async move { tx.execute(visit(1, 2)).await })
        });
        let done: Result<_, ShardError> = write.await;
        done.map(|done| done.watermark.unwrap())
    })
    .await;
    assert!(later.timeline() > mark.timeline());
    assert_eq!(pair.seen(1, at_least(later)).await, (2, false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shard_that_is_about_to_move_is_read_from_its_primary() {
    let pair = Pair::new().await;
    pair.is_known().await;
    let strict = pair
        .router
        .topology()
        .change()
        .state(1..2, SlotState::Strict);
    pair.router
        .reload(strict.build().unwrap(), &pair.entries)
        .unwrap();
    let any = ReadPolicy::Replica { max_lag: LIMIT };
    assert!(!pair.seen(1, any).await.1);
    let other = pair.router.virtual_shard(VirtualShard::new(2)).unwrap();
    assert!(seen(&other, 1, any).await.unwrap().1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn freshness_carries_what_was_written_from_one_process_to_another() {
    let pair = Pair::new().await;
    pair.is_known().await;
    pair.replica.pause_replay().await;
    let keys = KeyRing::new(1, Secret::new([7; 32])).unwrap();
    let first = Freshness::new(Clock::system());
    let elsewhere = first.policy(&pair.shard());
    assert!(matches!(elsewhere, ReadPolicy::Replica { .. }));
    first.wrote(&pair.shard(), Some(pair.visit(1, 1).await));
    let text = first.to_text(&keys);

    let second = Freshness::from_text(&text, &keys, Clock::system()).unwrap();
    let policy = second.policy(&pair.shard());
    assert_eq!(pair.seen(1, policy).await, (1, false));
    pair.replica.resume_replay().await;
    eventually(LIMIT, async || pair.seen(1, policy).await == (1, true)).await;
}

/// The primary and one replica stand in `us`, another replica where we are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nearest_server_is_read_from_as_long_as_it_is_young_enough() {
    let primary = PostgresServer::start().await;
    let replicas = [primary.replica().await, primary.replica().await];
    let standing = |url: String, region: &str| {
        let mark = if url.contains('?') { '&' } else { '?' };
        format!("{url}{mark}region={region}")
    };
    let mut entries = vec![NodeSpec::parse(&standing(primary.url(), "us"), 1).unwrap()];
    for (number, (replica, region)) in (1..).zip(replicas.iter().zip(["us", "eu"])) {
        let entry = format!("node-1={}", standing(replica.url(), region));
        NodeSpec::attach(&mut entries, &entry, number).unwrap();
    }
    let here = RegionId::new("eu").unwrap();
    let config = FleetConfig::new(entries).shards(SHARDS).region(here);
    let fleet = open(config).await;
    let shard = fleet.router().virtual_shard(VirtualShard::new(1)).unwrap();
    let reads = async |policy| shard.source(policy).await.name().to_owned();
    let near = |max_lag| ReadPolicy::Nearest { max_lag };

    eventually(LIMIT, async || reads(near(LIMIT)).await == "node-1#3").await;
    // It stands still while others write, so each moment makes it older.
    replicas[1].pause_replay().await;
    let writes = sql("CREATE TABLE later (n integer)");
    shard.node().database().execute(writes).await.unwrap();
    let close = near(Duration::from_millis(500));
    eventually(LIMIT, async || reads(close).await != "node-1#3").await;
    assert_eq!(reads(near(LIMIT)).await, "node-1#3");
    replicas[1].resume_replay().await;
    eventually(LIMIT, async || reads(close).await == "node-1#3").await;

    replicas[1].kill().await;
    eventually(LIMIT, async || reads(near(LIMIT)).await != "node-1#3").await;
    assert_eq!(reads(ReadPolicy::Primary).await, "node-1");
}
