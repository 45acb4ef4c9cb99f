//! What a process remembers of denials.

use std::time::Duration;

use maxscale_core::limit::{Edit, Limits, Policy, Rate, Source};
use maxscale_core::redis::Redis;
use maxscale_core::telemetry::Metrics;
use maxscale_tests::{RedisServer, eventually};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::{HOUR, both, commands, patiently};
use crate::redis::{SOON, patient};

const BURST: u32 = 64;

/// How many are admitted of so many tasks that ask so often.
async fn admitted(limits: &Limits, policy: &Policy, tasks: u32, each: u32) -> u32 {
    let mut threads = JoinSet::new();
    for _ in 0..tasks {
        let (limits, policy) = (limits.clone(), policy.clone());
        threads.spawn(async move {
            let mut admitted = 0;
            for _ in 0..each {
                let decision = limits.check(&policy, "hot").await;
                admitted += u32::from(decision.is_allowed());
                tokio::task::consume_budget().await;
            }
            admitted
        });
    }
    threads.join_all().await.into_iter().sum()
}

/// Each thread keeps for itself what all are denied.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn threads_that_are_denied_the_same_count_each_denial_and_hear_an_operators_word() {
    let server = RedisServer::start().await;
    let limits = both(patiently(&server).await);
    let rate = Rate::new(1, HOUR).unwrap().burst(BURST).unwrap();
    let policy = Policy::new("hot", rate).unwrap();
    for round in 1..=3 {
        assert!(limits.edit("hot", &policy, Edit::Block(HOUR)).await);
        assert_eq!(admitted(&limits, &policy, 4, 5_001).await, 0);
        let top = limits.top_denied(1);
        assert_eq!((top[0].count, top[0].over), (4 * 5_001 * round, 0));

        assert!(limits.edit("hot", &policy, Edit::Reset).await);
        assert_eq!(admitted(&limits, &policy, BURST, 1).await, BURST);
    }
}

/// How often a policy decided so, by its metrics.
fn decided(metrics: &Metrics, outcome: &str, source: &str) -> Option<String> {
    let told = metrics.exposition().unwrap();
    let labels = [("outcome", outcome), ("source", source)];
    let is_it = |line: &&str| {
        line.starts_with("maxscale_limit_decisions_total")
            && labels
                .iter()
                .all(|(k, v)| line.contains(&format!("{k}=\"{v}\"")))
    };
    let count = told.lines().find(is_it)?.rsplit(' ').next()?;
    Some(count.to_owned())
}

/// Asks a thousand times for what is denied; none if its wait was over meanwhile.
async fn denied_from_memory(redis: &Redis, limits: &Limits, principal: &str) -> Option<Duration> {
    let (metrics, begun) = (Metrics::new(), Instant::now());
    let rate = Rate::new(2, Duration::from_secs(1)).unwrap();
    let policy = Policy::new("test", rate).unwrap();
    let policy = policy.measured(&metrics.meter("test"));
    let first = limits.check(&policy, principal).await;
    let denied = limits.check(&policy, principal).await;
    let before = commands(redis).await;
    let mut again = Vec::new();
    for _ in 0..1_000 {
        again.push(limits.check(&policy, principal).await);
    }
    let sent = commands(redis).await - before;
    if begun.elapsed() >= Duration::from_millis(500) {
        return None;
    }
    assert!(first.is_allowed());
    assert_eq!(denied.source(), Source::Store);
    for again in again {
        assert!(!again.is_allowed());
        assert_eq!(again.source(), Source::DenyCache);
        assert!(again.retry_after() <= denied.retry_after());
    }
    assert_eq!(sent, 0);
    for (outcome, source, count) in [
        ("allowed", "store", "1"),
        ("denied", "store", "1"),
        ("denied", "deny-cache", "1000"),
    ] {
        assert_eq!(decided(&metrics, outcome, source).as_deref(), Some(count));
    }
    sleep(denied.retry_after().unwrap()).await;
    assert!(limits.check(&policy, principal).await.is_allowed());
    denied.retry_after()
}

#[tokio::test(flavor = "multi_thread")]
async fn denied_principal_is_denied_without_a_command_until_its_wait_is_over() {
    let server = RedisServer::start().await;
    let (redis, limits) = (patient(&server).await, both(patiently(&server).await));
    let mut round = 0;
    eventually(SOON, async || {
        round += 1;
        denied_from_memory(&redis, &limits, &format!("round {round}")).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn remembered_denial_ends_with_another_rule_and_with_an_operators_word() {
    let server = RedisServer::start().await;
    let limits = both(patiently(&server).await);
    let policy = Policy::new("test", Rate::new(2, HOUR).unwrap()).unwrap();
    assert!(limits.check(&policy, "one").await.is_allowed());
    assert!(!limits.check(&policy, "one").await.is_allowed());
    let wide = Policy::new("test", Rate::per_second(100).unwrap()).unwrap();
    assert_eq!(limits.check(&wide, "one").await.source(), Source::Store);
    assert!(!limits.check(&policy, "one").await.is_allowed());
    limits.edit("one", &policy, Edit::Reset).await;
    assert!(limits.check(&policy, "one").await.is_allowed());
}
