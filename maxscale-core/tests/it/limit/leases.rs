//! Tokens that a process takes ahead.

use std::time::Duration;

use maxscale_core::limit::{Charge, Edit, Limits, Policy, Quota, Rate, Source};
use maxscale_tests::{Lateness, RedisServer, eventually};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{HOUR, both, commands, through};
use crate::redis::{SOON, patient};

/// Refills nothing within the test's time.
fn leased(burst: u32) -> Policy {
    let rate = Rate::new(burst, 10_000 * HOUR)
        .unwrap()
        .burst(burst)
        .unwrap();
    let policy = Policy::new("leased", rate).unwrap();
    policy.leased(Duration::from_secs(60)).unwrap()
}

/// Asks until this process holds tokens; how many requests that took.
async fn warm(limits: &Limits, policy: &Policy, key: &str) -> u32 {
    let mut asked = 0;
    eventually(SOON, async || {
        asked += 1;
        let decision = limits.check(policy, key).await;
        assert!(decision.is_allowed());
        decision.source() == Source::Lease
    })
    .await;
    asked
}

async fn left(limits: &Limits, policy: &Policy, key: &str) -> u32 {
    let charges = [Charge::from(policy.clone())];
    let peeked = limits.peek(key, &charges).await;
    assert_eq!(peeked.source(), Source::Store);
    peeked.standings()[0].status.remaining
}

/// What is spent comes to be what was asked for, no more and no less.
async fn come_to(asked: u32, spent: impl AsyncFn() -> u32) {
    eventually(SOON, async || match spent().await {
        spent if spent == asked => Ok(()),
        spent => Err((spent, asked)),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn busy_key_asks_once_for_many_requests_and_gives_back_what_it_did_not_use() {
    let server = RedisServer::start().await;
    let (redis, limits) = (
        patient(&server).await,
        both(through(patient(&server).await)),
    );
    let policy = leased(1_000_000);
    let before = commands(&redis).await;
    let (mut asked, mut by_lease) = (0, 0);
    let begin = Instant::now();
    // So many that the first ones, before there is a lease, are few.
    while asked < 20_000 || begin.elapsed() < Duration::from_millis(500) {
        let decision = limits.check(&policy, "busy").await;
        assert!(decision.is_allowed());
        asked += 1;
        by_lease += u32::from(decision.source() == Source::Lease);
    }
    let sent = commands(&redis).await - before;
    println!("{asked} requests, {by_lease} by leases, {sent} commands");
    assert!(by_lease > asked / 10 * 9, "{by_lease} of {asked}");
    assert!(sent < i64::from(asked) / 20, "{sent} for {asked}");

    // None is lost, and none comes back that was spent.
    come_to(asked, async || {
        limits.hand_back().await;
        1_000_000 - left(&limits, &policy, "busy").await
    })
    .await;
}

/// Each thread holds a part of what there is.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn threads_that_share_a_hot_key_lose_none_of_its_tokens_and_end_at_an_operators_word() {
    let server = RedisServer::start().await;
    let limits = both(through(patient(&server).await));
    let policy = leased(10_000_000);
    let busy = async || {
        let mut threads = JoinSet::new();
        for _ in 0..4 {
            let (limits, policy) = (limits.clone(), policy.clone());
            threads.spawn(async move {
                let mut admitted = 0;
                for _ in 0..30_000 {
                    let decision = limits.check(&policy, "hot").await;
                    admitted += u32::from(decision.is_allowed());
                    tokio::task::consume_budget().await;
                }
                admitted
            });
        }
        threads.join_all().await.into_iter().sum::<u32>()
    };
    let admitted = busy().await;
    assert_eq!(admitted, 120_000);
    come_to(admitted, async || {
        limits.hand_back().await;
        10_000_000 - left(&limits, &policy, "hot").await
    })
    .await;
    // Hot again, in all threads.
    busy().await;
    assert!(limits.edit("hot", &policy, Edit::Block(HOUR)).await);
    assert_eq!(busy().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_lease_is_given_back_by_itself() {
    let server = RedisServer::start().await;
    let limits = both(through(patient(&server).await));
    let rate = *leased(10_000).rule();
    let policy = Policy::new("leased", rate).unwrap();
    let policy = policy.leased(Duration::from_secs(4)).unwrap();
    let mut asked = warm(&limits, &policy, "one").await;
    for _ in 0..200 {
        asked += 1;
        limits.check(&policy, "one").await;
    }
    come_to(asked, async || 10_000 - left(&limits, &policy, "one").await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn word_of_an_operator_and_another_rule_end_a_lease() {
    let server = RedisServer::start().await;
    let limits = both(through(patient(&server).await));
    let policy = leased(10_000);
    warm(&limits, &policy, "one").await;
    assert!(limits.edit("one", &policy, Edit::Block(HOUR)).await);
    assert!(!limits.check(&policy, "one").await.is_allowed());
    assert!(limits.edit("one", &policy, Edit::Reset).await);

    warm(&limits, &policy, "one").await;
    let rate = Rate::new(1, HOUR).unwrap();
    let lowered = Policy::new("leased", rate).unwrap();
    assert_ne!(limits.check(&lowered, "one").await.source(), Source::Lease);
    let raised = leased(20_000);
    assert_ne!(limits.check(&raised, "one").await.source(), Source::Lease);
}

#[tokio::test(flavor = "multi_thread")]
async fn request_that_another_policy_denies_spends_nothing_of_a_lease() {
    let server = RedisServer::start().await;
    let (redis, limits) = (
        patient(&server).await,
        both(through(patient(&server).await)),
    );
    let (wide, close) = (leased(10_000), Quota::new(3, HOUR).unwrap());
    let close = Policy::new("close", close).unwrap();
    let mut asked = warm(&limits, &wide, "one").await;
    let charges = [Charge::from(wide.clone()), Charge::from(close)];
    for n in 0..100 {
        let decision = limits.check_each("one", &charges).await;
        assert_eq!(decision.is_allowed(), n < 3, "{n}");
        assert!(n >= 3 || decision.standings().len() == 2);
        asked += u32::from(n < 3);
    }
    // Nor is what is asked in vain a need for more.
    let before = commands(&redis).await;
    for _ in 0..1_000 {
        assert!(!limits.check_each("one", &charges).await.is_allowed());
    }
    let sent = commands(&redis).await - before;
    assert!(sent < 20, "{sent}");
    // The same where the policies are of different principals.
    for _ in 0..20 {
        let all = [("one", &charges[..1]), ("one", &charges[1..])];
        assert!(!limits.check_all(&all).await.is_allowed());
    }
    come_to(asked, async || {
        limits.hand_back().await;
        10_000 - left(&limits, &wide, "one").await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lease_lasts_while_redis_is_down_and_no_longer() {
    let server = RedisServer::start().await;
    let limits = both(through(patient(&server).await));
    let rate = Rate::new(10_000, HOUR).unwrap().burst(10_000).unwrap();
    let policy = Policy::new("short", rate).unwrap();
    let lease = Duration::from_secs(5);
    let policy = policy.leased(lease).unwrap();
    warm(&limits, &policy, "one").await;
    for _ in 0..500 {
        limits.check(&policy, "one").await;
    }
    server.kill().await;
    let (down, late) = (Instant::now(), Lateness::watch());
    let mut sources = Vec::new();
    while sources.last() != Some(&Source::Fallback) {
        let most = 2 * lease + late.total();
        assert!(down.elapsed() < most, "{late:?}");
        let source = limits.check(&policy, "one").await.source();
        if sources.last() != Some(&source) {
            sources.push(source);
        }
    }
    assert_eq!(sources, [Source::Lease, Source::Fallback]);
}
