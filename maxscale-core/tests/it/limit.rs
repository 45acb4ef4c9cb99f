//! Limits through Redis.

mod accuracy;
mod attempts;
mod denials;
mod faults;
mod holders;
mod holds;
mod leases;
mod together;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use futures_util::future::join_all;
use maxscale_core::clock::Clock;
use maxscale_core::keys::{KeyRing, Secret};
use maxscale_core::limit::{
    Call, Charge, Decision, Down, Edit, Entry, Granted, LimitStore, Limits, LocalLimits,
    Log as Few, Policy, Quota, Rate, RedisLimits, Rule, Source, conformance,
};
use maxscale_core::redis::{Command, Redis, Reply};
use maxscale_tests::{Lateness, RedisCluster, RedisServer, eventually};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::redis::log::Log;
use crate::redis::{SOON, TIMEOUT, ample, cluster_config, connect, open, patient};

/// For tests of what a timeout does, where all before must be in time.
async fn amply(server: &RedisServer) -> RedisLimits {
    through(ample(server).await)
}

/// For tests of anything but outages, on a machine that is busy.
async fn patiently(server: &RedisServer) -> RedisLimits {
    through(patient(server).await)
}

fn through(redis: Redis) -> RedisLimits {
    let ring = KeyRing::new(1, Secret::new([7; 32])).unwrap();
    RedisLimits::new(redis, "test:", ring)
}

fn ten_an_hour() -> Policy {
    let rate = Rate::new(10, HOUR).unwrap().burst(10).unwrap();
    Policy::new("test", rate).unwrap()
}

const HOUR: Duration = Duration::from_secs(3_600);

/// Checks `n` times at once; how many were allowed.
async fn allowed(limits: &Limits, key: &str, n: usize) -> usize {
    let policy = ten_an_hour();
    let decisions = join_all((0..n).map(|_| limits.check(&policy, key))).await;
    decisions.iter().filter(|d| d.is_allowed()).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn local_limits_keep_every_promise() {
    let limits = LocalLimits::new(Clock::system());
    conformance::check(&limits, &limits.clone()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_limits_keep_every_promise() {
    let server = RedisServer::start().await;
    conformance::check(&patiently(&server).await, &patiently(&server).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_limits_keep_every_promise_on_a_cluster() {
    let cluster = RedisCluster::start().await;
    let limits = async || through(connect(cluster_config(&cluster).timeout(SOON)).await);
    conformance::check(&limits().await, &limits().await).await;
}

/// What is leased promises something else.
fn strict(name: &str, rule: Rule) -> Policy {
    Policy::new(name, rule).unwrap().strict()
}

/// [`Limits`] as a store: what goes together and what is remembered of denials must
/// break no promise.
struct Through(Limits);

impl LimitStore for Through {
    type Error = Infallible;

    async fn run(&self, call: &Call) -> Result<Vec<Granted>, Infallible> {
        let principal = &*call.principal;
        let policy = |entry: &Entry| strict(&entry.policy, entry.rule);
        let policies: Vec<Policy> = call.entries.iter().map(policy).collect();
        for (entry, policy) in call.entries.iter().zip(&policies) {
            if entry.back > 0 {
                let back = Charge::new(policy.clone(), entry.back);
                self.0.give_back(principal, &[back]).await;
            }
        }
        let mut answers = Vec::new();
        for run in &call.runs {
            let charges = policies.iter().zip(&run.costs);
            let charges: Vec<_> = charges
                .map(|(policy, cost)| Charge::new(policy.clone(), *cost))
                .collect();
            let (mut count, mut last) = (0, None);
            for _ in 0..run.count {
                if run.force {
                    self.0.charge(principal, &charges).await;
                } else {
                    let decision = self.0.check_each(principal, &charges).await;
                    let allowed = decision.is_allowed();
                    last = Some(decision);
                    if !allowed {
                        break;
                    }
                }
                count += 1;
            }
            // Of a denial that is remembered, only those that denied are told.
            let told = last.filter(|it| it.standings().len() == charges.len());
            let decision = match told {
                Some(decision) => decision,
                None => self.0.peek(principal, &charges).await,
            };
            let statuses = decision.standings().iter().map(|it| it.status).collect();
            answers.push(Granted { count, statuses });
        }
        Ok(answers)
    }

    async fn edit(
        &self,
        principal: &str,
        policy: &str,
        rule: &Rule,
        edit: Edit,
    ) -> Result<(), Infallible> {
        let policy = strict(policy, *rule);
        assert!(self.0.edit(principal, &policy, edit).await);
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_with_redis_keep_every_promise() {
    let server = RedisServer::start().await;
    let limits = async || Through(both(patiently(&server).await));
    let (here, there) = (limits().await, limits().await);
    conformance::check(&here, &there).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_redis_is_down_each_process_limits_alone_and_then_they_share_again() {
    let server = RedisServer::start().await;
    let local = || LocalLimits::new(Clock::system());
    let (here, there) = (
        Limits::shared(patiently(&server).await, local()),
        Limits::shared(patiently(&server).await, local()),
    );
    assert_eq!(allowed(&here, "a", 20).await, 10);
    assert_eq!(allowed(&there, "a", 20).await, 0);

    server.kill().await;
    // How many processes there are is known to each or not yet.
    let alone = allowed(&here, "b", 20).await + allowed(&there, "b", 20).await;
    assert!((10..=20).contains(&alone), "{alone}");

    server.restart_empty().await;
    let mut round = 0;
    eventually(SOON, async || {
        round += 1;
        let key = format!("after {round}");
        allowed(&here, &key, 20).await + allowed(&there, &key, 20).await == 10
    })
    .await;
}

/// On one thread, so that the log is this test's.
#[tokio::test]
async fn log_tells_once_of_a_redis_that_counts_some_keys_and_others_not() {
    let log = Log::default();
    let _log = tracing::subscriber::set_default(log.clone());
    let server = RedisServer::start().await;
    let redis = patient(&server).await;
    let limits = Limits::shared(through(redis.clone()), LocalLimits::new(Clock::system()));
    assert_eq!(allowed(&limits, "bad", 1).await, 1);
    let keys = redis.command(Command::new("KEYS").arg("*")).await.unwrap();
    let keys = keys.into_array().unwrap();
    // Beside it is who counts here.
    let is_limit = |key: &&Reply| matches!(key, Reply::Bytes(name) if name.contains(&b'{'));
    let Some(Reply::Bytes(bad)) = keys.iter().find(is_limit) else {
        panic!("one key: {keys:?}");
    };
    // Nothing that the script could read.
    for other in [
        Command::new("DEL").key(bad.clone()),
        Command::new("RPUSH").key(bad.clone()).arg("other"),
    ] {
        redis.command(other).await.unwrap();
    }

    let told = log.lines().len();
    for _ in 0..20 {
        allowed(&limits, "bad", 1).await;
        allowed(&limits, "good", 1).await;
    }
    let told = log.lines().split_off(told);
    assert_eq!(told.len(), 1, "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn paused_redis_delays_no_check_beyond_twice_the_timeout() {
    let server = RedisServer::start().await;
    let limits = both(through(open(&server).await));
    server.pause();
    let (start, late) = (Instant::now(), Lateness::watch());
    assert_eq!(allowed(&limits, "a", 64).await, 10);
    let took = start.elapsed();
    assert!(took < 3 * TIMEOUT + late.total(), "{took:?}, {late:?}");
    server.resume();
}

fn both(server: RedisLimits) -> Limits {
    Limits::shared(server, LocalLimits::new(Clock::system()))
}

async fn commands(redis: &Redis) -> i64 {
    let stats = redis
        .command(Command::new("INFO").arg("commandstats"))
        .await;
    let stats = stats.unwrap().into_bytes().unwrap();
    let stats = String::from_utf8(stats.to_vec()).unwrap();
    let calls = stats.split("cmdstat_evalsha:calls=").nth(1);
    calls.map_or(0, |rest| rest[..rest.find(',').unwrap()].parse().unwrap())
}

/// Begins all of these, each by a task of its own, and returns once each has asked.
async fn begun<F>(asks: impl Iterator<Item = F>) -> JoinSet<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    let (asked, mut tasks) = (Arc::new(AtomicUsize::new(0)), JoinSet::new());
    for ask in asks {
        let asked = asked.clone();
        tasks.spawn(async move {
            let mut ask = Box::pin(ask);
            let first = futures_util::poll!(&mut ask);
            asked.fetch_add(1, Ordering::Relaxed);
            match first {
                Poll::Ready(answer) => answer,
                Poll::Pending => ask.await,
            }
        });
    }
    eventually(SOON, async || asked.load(Ordering::Relaxed) == tasks.len()).await;
    tasks
}

/// What comes while a command is under way goes together with the next one.
#[tokio::test(flavor = "multi_thread")]
async fn requests_of_a_principal_at_once_are_few_commands_and_each_is_told_its_own() {
    let server = RedisServer::start().await;
    let (redis, limits) = (patient(&server).await, both(patiently(&server).await));
    let rate = Rate::new(300, HOUR).unwrap().burst(300).unwrap();
    let policy = Policy::new("test", rate).unwrap();
    limits.check(&policy, "warm").await;
    let before = commands(&redis).await;
    let checks = (0..500).map(|_| {
        let (limits, policy) = (limits.clone(), policy.clone());
        async move { limits.check(&policy, "one").await }
    });
    // However fast it would answer the first ones, it has them all before.
    server.pause();
    let at_once = begun(checks).await;
    server.resume();
    let decisions = at_once.join_all().await;
    let sent = commands(&redis).await - before;
    assert!(sent < 100, "{sent} commands for 500 requests");
    let left = |decision: &Decision| decision.standings()[0].status.remaining;
    let allowed = decisions.iter().filter(|it| it.is_allowed());
    let mut left: Vec<u32> = allowed.map(left).collect();
    left.sort_unstable();
    assert_eq!(left, (0..300).collect::<Vec<_>>());
}

/// Whoever goes is charged or not, and the others are decided all the same.
#[tokio::test(flavor = "multi_thread")]
async fn request_that_is_given_up_keeps_nobody_waiting() {
    let server = RedisServer::start().await;
    let limits = both(patiently(&server).await);
    let policy = ten_an_hour();
    for round in 0..50 {
        let key = format!("round {round}");
        let given_up = (0..round % 5).map(|_| {
            let check = limits.check(&policy, &key);
            tokio::time::timeout(Duration::ZERO, check)
        });
        let all = async {
            let given_up = join_all(given_up);
            tokio::join!(given_up, allowed(&limits, &key, 30)).1
        };
        let allowed = tokio::time::timeout(SOON, all).await.unwrap();
        assert!((10 - round % 5..=10).contains(&allowed), "{allowed}");
    }
}

/// Whoever asked first may be polled no more.
#[tokio::test(flavor = "multi_thread")]
async fn request_that_is_polled_no_more_keeps_nobody_waiting() {
    let server = RedisServer::start().await;
    let limits = both(patiently(&server).await);
    let policy = ten_an_hour();
    let mut first = Box::pin(limits.check(&policy, "one"));
    assert!(futures_util::poll!(&mut first).is_pending());
    let second = tokio::time::timeout(SOON, limits.check(&policy, "one")).await;
    assert!(second.unwrap().is_allowed());
    assert!(first.await.is_allowed());
}

#[tokio::test(flavor = "multi_thread")]
async fn where_one_principal_denies_what_others_took_is_given_back() {
    let server = RedisServer::start().await;
    let limits = both(patiently(&server).await);
    let close = Policy::new("close", Few::new(1, HOUR).unwrap()).unwrap();
    let wide = Policy::new("wide", Quota::new(10, HOUR).unwrap()).unwrap();
    let (close, wide) = ([Charge::from(close)], [Charge::new(wide, 2)]);
    let asked = [("user", &wide[..]), ("address", &close[..])];
    assert!(limits.check_all(&asked).await.is_allowed());
    for _ in 0..20 {
        let denied = limits.check_all(&asked).await;
        assert_eq!(denied.denied_by().unwrap().policy.name(), "close");
    }
    eventually(SOON, async || {
        let left = limits.peek("user", &wide).await.standings()[0]
            .status
            .remaining;
        (left == 8).then_some(()).ok_or(left)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_redis_is_down_each_policy_does_what_it_says() {
    let server = RedisServer::start().await;
    let (here, there) = (
        both(patiently(&server).await),
        both(patiently(&server).await),
    );
    let policy = |name, down| {
        let rate = Rate::new(10, HOUR).unwrap().burst(10).unwrap();
        Policy::new(name, rate).unwrap().when_down(down)
    };
    let share = policy("share", Down::LocalShare);
    // Both processes have said by then that they are there.
    eventually(SOON, async || {
        let told = [&here, &there].map(|limits| format!("{limits:?}"));
        told.iter().all(|told| told.contains("instances: 2"))
    })
    .await;
    server.kill().await;
    let count = async |limits: &Limits, policy: &Policy| {
        let checks = (0..20).map(|_| limits.check(policy, "one"));
        let decisions = join_all(checks).await;
        assert!(decisions.iter().all(|it| it.source() == Source::Fallback));
        decisions.iter().filter(|it| it.is_allowed()).count()
    };
    assert_eq!(count(&here, &share).await + count(&there, &share).await, 10);
    assert_eq!(count(&here, &policy("open", Down::Open)).await, 20);
    assert_eq!(count(&here, &policy("closed", Down::Closed)).await, 0);
}
