//! Redis that forgets, hangs or fails over while limits are asked for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use maxscale_core::clock::Clock;
use maxscale_core::limit::{Charge, Limits, LocalLimits, Policy, Quota, Source};
use maxscale_core::redis::{Command, Redis};
use maxscale_tests::{Lateness, RedisCluster, RedisServer, eventually};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::{HOUR, both, commands, through};
use crate::redis::past::tell;
use crate::redis::{SOON, TIMEOUT, cluster_config, config, connect, patient};

/// For a failover on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// An answer that a stall delays is not to be taken for none, as it was charged; and a
/// connection is kept for longer.
const HANG: Duration = Duration::from_millis(900);

/// How soon the store decides again once it is back.
const BACK: Duration = Duration::from_secs(2);

/// Requests that go on until they are told to end. How long each took is told without
/// what the machine let wait meanwhile.
struct Load {
    ends: Arc<AtomicBool>,
    admitted: Arc<AtomicU32>,
    late: Arc<Lateness>,
    tasks: JoinSet<Vec<(Source, Duration)>>,
}

impl Load {
    /// Each task asks for a principal of its own.
    fn start(limits: &Limits, policy: &Policy, tasks: u32) -> Self {
        let mut load = Self {
            ends: Arc::default(),
            admitted: Arc::default(),
            late: Arc::new(Lateness::watch()),
            tasks: JoinSet::new(),
        };
        for n in 0..tasks {
            let (limits, policy, key) = (limits.clone(), policy.clone(), format!("key {n}"));
            let (ends, admitted) = (load.ends.clone(), load.admitted.clone());
            let late = load.late.clone();
            load.tasks.spawn(async move {
                let mut asked = Vec::new();
                while !ends.load(Ordering::Relaxed) {
                    let (start, before) = (Instant::now(), late.total());
                    let decision = limits.check(&policy, &key).await;
                    let took = start.elapsed();
                    let took = took.saturating_sub(late.total() - before);
                    asked.push((decision.source(), took));
                    let counts = decision.source() == Source::Store && decision.is_allowed();
                    admitted.fetch_add(u32::from(counts), Ordering::Relaxed);
                    sleep(Duration::from_micros(500)).await;
                }
                asked
            });
        }
        load
    }

    async fn end(self) -> (u32, Vec<(Source, Duration)>) {
        self.ends.store(true, Ordering::Relaxed);
        let asked = self.tasks.join_all().await.concat();
        (self.admitted.load(Ordering::Relaxed), asked)
    }
}

fn wide() -> Policy {
    let quota = Quota::new(1_000_000, HOUR).unwrap();
    Policy::new("wide", quota).unwrap()
}

async fn charged(limits: &Limits, policy: &Policy, keys: u32) -> u32 {
    let mut charged = 0;
    for n in 0..keys {
        let charges = [Charge::from(policy.clone())];
        let peeked = limits.peek(&format!("key {n}"), &charges).await;
        assert_eq!(peeked.source(), Source::Store);
        charged += 1_000_000 - peeked.standings()[0].status.remaining;
    }
    charged
}

fn p99(asked: &[(Source, Duration)]) -> Duration {
    let mut times: Vec<Duration> = asked.iter().map(|it| it.1).collect();
    times.sort_unstable();
    times[times.len() * 99 / 100]
}

fn longest(asked: &[(Source, Duration)]) -> Duration {
    asked.iter().map(|it| it.1).max().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_that_forgets_scripts_and_counts_under_load_costs_no_error() {
    let server = RedisServer::start().await;
    let (redis, limits) = (
        patient(&server).await,
        both(through(patient(&server).await)),
    );
    let load = Load::start(&limits, &wide(), 16);
    let few = || load.admitted.load(Ordering::Relaxed) <= 500;
    for n in (0..4_000).take_while(|n| *n < 60 || few()) {
        let forget = match n % 2 {
            0 => Command::new("SCRIPT").arg("FLUSH"),
            _ => Command::new("FLUSHALL"),
        };
        redis.command(forget).await.unwrap();
        sleep(Duration::from_millis(15)).await;
    }
    let (admitted, asked) = load.end().await;
    let failed = asked.iter().filter(|it| it.0 != Source::Store).count();
    assert_eq!(failed, 0, "of {}", asked.len());
    assert!(admitted > 500, "{admitted}");
}

/// Asks for a while beside limits that share nothing: on a machine that has no time for
/// a millisecond, as fast as those. How long the slowest of them took, if it was so.
async fn no_slower_than_without_redis(
    limits: &Limits,
    policy: &Policy,
) -> Result<Duration, [Duration; 2]> {
    let alone = Limits::local(LocalLimits::new(Clock::system()));
    let (quick, bare) = (
        Load::start(limits, policy, 4),
        Load::start(&alone, policy, 4),
    );
    sleep(Duration::from_secs(1)).await;
    let ((_, asked), (_, bare)) = (quick.end().await, bare.end().await);
    assert!(asked.iter().all(|it| it.0 == Source::Fallback));
    let both = [p99(&asked), p99(&bare)];
    println!("p99 {:?}, with nothing shared {:?}", both[0], both[1]);
    let is_quick = both[0] < Duration::from_millis(1).max(2 * both[1]);
    is_quick.then(|| longest(&bare)).ok_or(both)
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_that_hangs_delays_little_and_what_it_is_sent_meanwhile_is_never_charged() {
    let server = RedisServer::start().await;
    let (direct, config) = (patient(&server).await, config(&server).timeout(HANG));
    let redis = connect(config).await;
    let (limits, policy) = (both(through(redis.clone())), wide());
    let load = Load::start(&limits, &policy, 16);
    eventually(SOON, async || load.admitted.load(Ordering::Relaxed) > 200).await;

    let before = commands(&direct).await;
    // It is not to stop between a charge and its reply, which is lost with it.
    let hold = Command::new("CLIENT").args(["PAUSE", "600000", "WRITE"]);
    direct.command(hold).await.unwrap();
    server.pause();
    eventually(SOON, async || !redis.is_up()).await;
    let (resumed, late) = (Instant::now(), Lateness::watch());
    server.resume();
    tell(&server, "CLIENT UNPAUSE").await;
    eventually(SOON, async || {
        limits.check(&policy, "back").await.source() == Source::Store
    })
    .await;
    let back = resumed.elapsed();
    assert!(back < BACK + late.total(), "{back:?}, {late:?}");
    let (admitted, mut all) = load.end().await;
    // Those that were on their way when it stopped came too late to be charged.
    let other = both(through(patient(&server).await));
    assert_eq!(charged(&other, &policy, 16).await, admitted);
    assert!(commands(&direct).await > before);

    let load = Load::start(&limits, &policy, 16);
    server.pause();
    eventually(SOON, async || !redis.is_up()).await;
    // The breaker is open: what is asked from now on goes nowhere.
    let mut rounds = 0;
    let slowest = eventually(SOON, async || {
        rounds += 1;
        no_slower_than_without_redis(&limits, &policy).await
    })
    .await;
    server.resume();
    all.extend(load.end().await.1);
    let longest = longest(&all);
    println!("quick in round {rounds}, longest {longest:?}, back after {back:?}");
    assert!(longest < 2 * HANG + slowest, "{longest:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn cluster_that_loses_a_master_costs_no_error_but_the_fallback() {
    let cluster = RedisCluster::start().await;
    let redis: Redis = connect(cluster_config(&cluster)).await;
    let (limits, policy) = (both(through(redis)), wide());
    let load = Load::start(&limits, &policy, 16);
    let alone = Limits::local(LocalLimits::new(Clock::system()));
    let bare = Load::start(&alone, &policy, 4);
    eventually(SOON, async || load.admitted.load(Ordering::Relaxed) > 200).await;

    let lost = cluster.master_of("any").await.unwrap();
    lost.kill().await;
    cluster.wait_until_served(LIMIT).await;
    // Each key is decided by the store again, whichever master it is at.
    for n in 0..16 {
        let key = format!("key {n}");
        eventually(SOON, async || {
            limits.check(&policy, &key).await.source() == Source::Store
        })
        .await;
    }
    let ((_, asked), (_, bare)) = (load.end().await, bare.end().await);
    let (longest, bare) = (longest(&asked), longest(&bare));
    println!(
        "longest {longest:?} of {}, with nothing shared {bare:?}",
        asked.len()
    );
    assert!(longest < 2 * TIMEOUT + bare, "{longest:?}");
    assert!(asked.iter().any(|it| it.0 == Source::Fallback));
}
