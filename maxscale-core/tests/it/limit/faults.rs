//! Redis that forgets, hangs or fails over while limits are asked for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use maxscale_core::clock::Clock;
use maxscale_core::limit::{Charge, Limits, LocalLimits, Policy, Quota, Source};
use maxscale_core::redis::{Command, Redis};
use maxscale_tests::{RedisCluster, RedisServer, eventually};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::{HOUR, both, commands, through};
use crate::redis::{SOON, TIMEOUT, cluster_config, connect, open, patient};

/// For a failover on a busy machine.
const LIMIT: Duration = Duration::from_secs(20);

/// Requests that go on until they are told to end.
struct Load {
    ends: Arc<AtomicBool>,
    admitted: Arc<AtomicU32>,
    tasks: JoinSet<Vec<(Source, Duration)>>,
}

impl Load {
    /// Each task asks for a principal of its own.
    fn start(limits: &Limits, policy: &Policy, tasks: u32) -> Self {
        let mut load = Self {
            ends: Arc::default(),
            admitted: Arc::default(),
            tasks: JoinSet::new(),
        };
        for n in 0..tasks {
            let (limits, policy, key) = (limits.clone(), policy.clone(), format!("key {n}"));
            let (ends, admitted) = (load.ends.clone(), load.admitted.clone());
            load.tasks.spawn(async move {
                let mut asked = Vec::new();
                while !ends.load(Ordering::Relaxed) {
                    let start = Instant::now();
                    let decision = limits.check(&policy, &key).await;
                    asked.push((decision.source(), start.elapsed()));
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
    let (redis, limits) = (open(&server).await, both(through(patient(&server).await)));
    let load = Load::start(&limits, &wide(), 16);
    for n in 0..60 {
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

#[tokio::test(flavor = "multi_thread")]
async fn redis_that_hangs_delays_little_and_what_it_is_sent_meanwhile_is_never_charged() {
    let server = RedisServer::start().await;
    let (direct, redis) = (open(&server).await, open(&server).await);
    let (limits, policy) = (both(through(redis.clone())), wide());
    let load = Load::start(&limits, &policy, 16);
    eventually(SOON, async || load.admitted.load(Ordering::Relaxed) > 200).await;

    let before = commands(&direct).await;
    // It is not to stop between a charge and its reply, which is lost with it.
    let hold = Command::new("CLIENT").arg("PAUSE").arg(1_000).arg("ALL");
    direct.command(hold).await.unwrap();
    server.pause();
    eventually(SOON, async || !redis.is_up()).await;
    // The breaker is open: what is asked from now on goes nowhere.
    let quick = Load::start(&limits, &policy, 4);
    let alone = Limits::local(LocalLimits::new(Clock::system()));
    let bare = Load::start(&alone, &policy, 4);
    sleep(Duration::from_secs(1)).await;
    let ((_, asked), (_, bare)) = (quick.end().await, bare.end().await);
    server.resume();
    let resumed = Instant::now();
    eventually(SOON, async || {
        limits.check(&policy, "back").await.source() == Source::Store
    })
    .await;
    let back = resumed.elapsed();
    let (admitted, all) = load.end().await;

    let slowest = longest(&bare);
    let (p99, bare) = (p99(&asked), p99(&bare));
    let longest = longest(&all);
    println!("p99 {p99:?}, with nothing shared {bare:?}, longest {longest:?}, back after {back:?}");
    assert!(asked.iter().all(|it| it.0 == Source::Fallback));
    // On a machine that has no time for a millisecond, as fast as without Redis.
    assert!(p99 < Duration::from_millis(1).max(2 * bare), "{p99:?}");
    assert!(longest < 2 * TIMEOUT + slowest, "{longest:?}");
    assert!(back < Duration::from_secs(2), "{back:?}");
    // Those that were on their way when it stopped came too late to be charged.
    assert_eq!(charged(&limits, &policy, 16).await, admitted);
    assert!(commands(&direct).await > before);
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
