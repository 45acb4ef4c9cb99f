//! Requests of many principals that come at once, and go with few commands.

use std::time::Duration;

use futures_util::future::join_all;
use maxscale_core::control::BreakerConfig;
use maxscale_core::limit::{Charge, Decision, Limits, Policy, Quota, Rate, Source};
use maxscale_core::redis::Redis;
use maxscale_tests::{Lateness, RedisCluster, RedisServer};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{HOUR, begun, both, commands, patiently, ten_an_hour, through};
use crate::redis::{SOON, cluster_config, config, connect, patient};

const PATIENCE: Duration = Duration::from_secs(1);

/// Asks all at once, each by a task of its own.
async fn asked_at_once(
    limits: &Limits,
    asked: impl Iterator<Item = (String, Vec<Charge>)>,
) -> JoinSet<(usize, Decision)> {
    let checks = asked.enumerate().map(|(place, (principal, charges))| {
        let limits = limits.clone();
        async move { (place, limits.check_each(&principal, &charges).await) }
    });
    begun(checks).await
}

/// What each is told, in the order in which they were asked.
async fn told(asked: JoinSet<(usize, Decision)>) -> Vec<Decision> {
    let mut decisions = asked.join_all().await;
    decisions.sort_unstable_by_key(|(place, _)| *place);
    decisions
        .into_iter()
        .map(|(_, decision)| decision)
        .collect()
}

fn left(decision: &Decision) -> Vec<u32> {
    let standings = decision.standings().iter();
    standings
        .map(|standing| standing.status.remaining)
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_many_principals_are_few_commands_and_each_is_told_its_own() {
    let server = RedisServer::start().await;
    let (redis, limits) = (patient(&server).await, both(patiently(&server).await));
    let rate = Rate::new(10, HOUR).unwrap().burst(10).unwrap();
    let rate = Policy::new("rate", rate).unwrap();
    let quota = Policy::new("quota", Quota::new(1_000, HOUR).unwrap()).unwrap();
    // The n-th has a cost of its own and every third a policy more; some are denied.
    let asked = (0..600_u32).map(|n| {
        let mut charges = vec![Charge::new(rate.clone(), n % 12)];
        if n % 3 == 0 {
            charges.push(Charge::new(quota.clone(), n));
        }
        (format!("principal {n}"), charges)
    });
    limits.check(&rate, "warm").await;
    let before = commands(&redis).await;
    // However fast it would answer the first ones, it has them all before.
    server.pause();
    let asked = asked_at_once(&limits, asked).await;
    server.resume();
    let decisions = told(asked).await;
    let sent = commands(&redis).await - before;
    assert!(sent < 200, "{sent} commands for 600 requests");
    for (n, decision) in (0..).zip(&decisions) {
        let cost = n % 12;
        assert_eq!(decision.source(), Source::Store);
        assert_eq!(decision.is_allowed(), cost <= 10, "{n}");
        let (rate, quota) = match decision.is_allowed() {
            true => (10 - cost, 1_000 - n),
            false => (10, 1_000),
        };
        let expected = if n % 3 == 0 {
            vec![rate, quota]
        } else {
            vec![rate]
        };
        assert_eq!(left(decision), expected, "{n}");
    }
}

/// Their keys are in many slots, of which a command may use one.
#[tokio::test(flavor = "multi_thread")]
async fn requests_of_many_principals_in_a_cluster_are_all_decided_by_it() {
    let cluster = RedisCluster::start().await;
    let redis: Redis = connect(cluster_config(&cluster).timeout(SOON)).await;
    let limits = both(through(redis));
    let asked = (0..200).map(|n| (format!("principal {n}"), vec![ten_an_hour().into()]));
    for decision in told(asked_at_once(&limits, asked).await).await {
        assert_eq!(decision.source(), Source::Store);
        assert_eq!(left(&decision), [9]);
    }
}

/// Also where no breaker opens, and more wait than go with the commands that are
/// under way at once.
#[tokio::test(flavor = "multi_thread")]
async fn paused_redis_delays_no_principal_beyond_twice_the_timeout() {
    let server = RedisServer::start().await;
    let breaker = BreakerConfig {
        failures: u32::MAX,
        ..BreakerConfig::default()
    };
    let config = config(&server).timeout(PATIENCE).breaker(breaker);
    let limits = both(through(connect(config).await));
    server.pause();
    let asked = (0..2_000).map(|n| (format!("principal {n}"), vec![ten_an_hour().into()]));
    let (start, late) = (Instant::now(), Lateness::watch());
    let decisions = told(asked_at_once(&limits, asked).await).await;
    let took = start.elapsed();
    assert!(took < 3 * PATIENCE + late.total(), "{took:?}, {late:?}");
    let fallback = |decision: &Decision| decision.source() == Source::Fallback;
    assert!(decisions.iter().all(fallback));
    server.resume();
}

/// On one thread: nothing is sent while the test does not wait.
#[tokio::test]
async fn request_that_is_dropped_before_it_is_sent_is_not_charged() {
    let server = RedisServer::start().await;
    let limits = both(patiently(&server).await);
    let policy = Policy::new("test", Quota::new(10, HOUR).unwrap()).unwrap();
    let mut checks: Vec<_> = (0..5)
        .map(|_| Box::pin(limits.check(&policy, "one")))
        .collect();
    for check in &mut checks {
        assert!(futures_util::poll!(check).is_pending());
    }
    drop(checks.remove(3));
    drop(checks.remove(0));
    let decisions = join_all(checks).await;
    assert_eq!(
        decisions.iter().map(left).collect::<Vec<_>>(),
        [[9], [8], [7]]
    );
    let peeked = limits.peek("one", &[policy.into()]).await;
    assert_eq!(left(&peeked), [7]);
}
