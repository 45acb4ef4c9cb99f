//! What operators say of limits is heard by all processes that share a Redis.

use std::time::Duration;

use maxscale_core::clock::Clock;
use maxscale_core::keys::{KeyRing, Secret};
use maxscale_core::limit::{
    Limits, LocalLimits, OverrideError, Policy, Rate, RedisLimits, Reputation, Source,
};
use maxscale_core::redis::{Command, Redis};
use maxscale_tests::{Lateness, RedisServer, eventually};
use tokio::time::Instant;

use crate::redis::{SOON, patient};

const HOUR: Duration = Duration::from_secs(3_600);

/// How soon all processes hear of what an operator says.
const HEARD: Duration = Duration::from_secs(5);

/// So long that it is heard before its end.
const BRIEF: Duration = Duration::from_secs(6);

/// The limits of one process.
async fn process(server: &RedisServer) -> Limits {
    limits(patient(server).await)
}

fn limits(redis: Redis) -> Limits {
    Limits::shared(through(redis), LocalLimits::new(Clock::system()))
}

fn through(redis: Redis) -> RedisLimits {
    let ring = KeyRing::new(1, Secret::new([7; 32])).unwrap();
    RedisLimits::new(redis, "test:", ring)
}

/// So many at once, and one more each minute.
fn rate(burst: u32) -> Rate {
    Rate::new(60, HOUR).unwrap().burst(burst).unwrap()
}

fn policy() -> Policy {
    Policy::new("requests", rate(2)).unwrap()
}

/// By how many at once `principal` is decided here.
fn burst(limits: &Limits, principal: &str) -> u32 {
    let found = limits.overridden(principal, &policy());
    found.map_or(2, |(rule, _)| rule.most())
}

async fn heard(limits: &Limits, principal: &str, wanted: u32) {
    eventually(SOON, async || {
        let found = burst(limits, principal);
        (found == wanted).then_some(()).ok_or(found)
    })
    .await;
}

async fn admitted(limits: &Limits, principal: &str) -> usize {
    let mut admitted = 0;
    while limits.check(&policy(), principal).await.is_allowed() {
        admitted += 1;
    }
    admitted
}

#[tokio::test(flavor = "multi_thread")]
async fn override_holds_here_at_once_and_soon_in_all_processes_and_later_ones() {
    let server = RedisServer::start().await;
    let (here, there) = (process(&server).await, process(&server).await);
    // Denied, which is remembered, in both.
    assert_eq!(admitted(&here, "ada").await, 2);
    assert_eq!(admitted(&there, "ada").await, 0);

    here.override_rule("ada", &policy(), rate(7), HOUR)
        .await
        .unwrap();
    let (start, late) = (Instant::now(), Lateness::watch());
    assert_eq!(admitted(&here, "ada").await, 5);
    heard(&there, "ada", 7).await;
    let told = start.elapsed();
    println!("an override was heard after {told:?}");
    assert!(told < HEARD + late.total(), "{told:?}, {late:?}");
    assert_eq!(admitted(&there, "ada").await, 0);
    assert_eq!(burst(&there, "bob"), 2);
    drop((here, there));
    let later = process(&server).await;
    heard(&later, "ada", 7).await;
    let (_, left) = later.overridden("ada", &policy()).unwrap();
    assert!(
        left <= HOUR && left > HOUR - Duration::from_secs(60),
        "{left:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn override_ends_in_all_processes_by_word_and_by_time() {
    let server = RedisServer::start().await;
    let (here, there) = (process(&server).await, process(&server).await);
    here.override_rule("ada", &policy(), rate(7), HOUR)
        .await
        .unwrap();
    heard(&there, "ada", 7).await;
    there.end_override("ada", &policy()).await.unwrap();
    assert_eq!(burst(&there, "ada"), 2);
    heard(&here, "ada", 2).await;

    here.override_rule("bob", &policy(), rate(7), BRIEF)
        .await
        .unwrap();
    heard(&there, "bob", 7).await;
    heard(&there, "bob", 2).await;
    heard(&here, "bob", 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn overrides_beyond_what_processes_hold_are_refused_and_make_room_when_they_end() {
    let server = RedisServer::start().await;
    let here = process(&server).await;
    for n in 0..Limits::MOST_OVERRIDES {
        let principal = n.to_string();
        here.override_rule(&principal, &policy(), rate(7), HOUR)
            .await
            .unwrap();
    }
    let set = here.override_rule("ada", &policy(), rate(7), HOUR).await;
    assert!(matches!(set, Err(OverrideError::Full)), "{set:?}");
    assert_eq!(burst(&here, "ada"), 2);
    here.end_override("0", &policy()).await.unwrap();
    here.override_rule("ada", &policy(), rate(7), HOUR)
        .await
        .unwrap();
    let there = process(&server).await;
    heard(&there, "ada", 7).await;
    assert_eq!((burst(&there, "0"), burst(&there, "999")), (2, 7));
}

#[tokio::test(flavor = "multi_thread")]
async fn while_redis_is_down_overrides_hold_and_none_is_taken_and_a_lost_one_is_forgotten() {
    let server = RedisServer::start().await;
    let (here, there) = (process(&server).await, process(&server).await);
    here.override_rule("ada", &policy(), rate(7), HOUR)
        .await
        .unwrap();
    heard(&there, "ada", 7).await;
    server.kill().await;
    let set = here.override_rule("bob", &policy(), rate(7), HOUR).await;
    assert!(matches!(set, Err(OverrideError::Store { .. })), "{set:?}");
    assert_eq!((burst(&here, "bob"), burst(&there, "ada")), (2, 7));
    server.restart_empty().await;
    heard(&here, "ada", 2).await;
    heard(&there, "ada", 2).await;
    eventually(SOON, async || {
        let set = here.override_rule("bob", &policy(), rate(7), HOUR).await;
        set.map_err(|error| error.to_string())
    })
    .await;
    heard(&there, "bob", 7).await;
}

/// What this process has leased of the old rule it does not spend any more.
#[tokio::test(flavor = "multi_thread")]
async fn override_of_what_is_leased_holds_at_once() {
    let server = RedisServer::start().await;
    let here = process(&server).await;
    let policy = Policy::new("often", Rate::per_second(10_000).unwrap()).unwrap();
    let mut asked = 0;
    eventually(SOON, async || {
        asked += 1;
        here.check(&policy, "ada").await.source() == Source::Lease
    })
    .await;
    let few = Rate::new(60, HOUR).unwrap().burst(3).unwrap();
    here.override_rule("ada", &policy, few, HOUR).await.unwrap();
    let mut admitted = 0;
    for _ in 0..100 {
        admitted += usize::from(here.check(&policy, "ada").await.is_allowed());
    }
    assert!((2..=3).contains(&admitted), "{admitted} after {asked}");
    here.end_override("ada", &policy).await.unwrap();
    // What it counted is three minutes of the slow rate, and a tenth of a second of
    // this one.
    eventually(SOON, async || here.check(&policy, "ada").await.is_allowed()).await;
}

/// Before it was read again by the process that set it.
#[tokio::test(flavor = "multi_thread")]
async fn override_that_redis_loses_at_once_is_forgotten() {
    let server = RedisServer::start().await;
    let redis = patient(&server).await;
    let here = limits(redis.clone());
    for principal in ["ada", "bob", "cyd"] {
        here.override_rule(principal, &policy(), rate(7), HOUR)
            .await
            .unwrap();
        assert_eq!(burst(&here, principal), 7);
        redis.command(Command::new("FLUSHALL")).await.unwrap();
        heard(&here, principal, 2).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn override_costs_requests_no_command() {
    let server = RedisServer::start().await;
    let redis = patient(&server).await;
    let here = process(&server).await;
    here.override_rule("ada", &policy(), rate(1_000), HOUR)
        .await
        .unwrap();
    let sent = async || {
        let stats = Command::new("INFO").arg("commandstats");
        let stats = redis.command(stats).await.unwrap().into_bytes().unwrap();
        let stats = String::from_utf8(stats.to_vec()).unwrap();
        let calls = stats.split("cmdstat_evalsha:calls=").nth(1).unwrap();
        let calls = calls.split(',').next().unwrap();
        calls.parse::<u64>().unwrap()
    };
    let (before, start) = (sent().await, Instant::now());
    for _ in 0..500 {
        assert!(here.check(&policy(), "ada").await.is_allowed());
    }
    let sent = sent().await - before;
    // A sign of life and, each second, a look at the overrides may come between.
    let most = 505 + start.elapsed().as_secs();
    assert!((500..most).contains(&sent), "{sent}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_denied_is_told_by_the_hash_that_redis_keys_have() {
    let server = RedisServer::start().await;
    let redis = patient(&server).await;
    let here = limits(redis.clone());
    assert_eq!(admitted(&here, "ada").await, 2);
    let top = here.top_denied(9);
    assert_eq!((top.len(), top[0].count), (1, 1));
    let key = format!("test:limit:2:{{{}}}:requests", top[0].hash);
    let there = redis.command(Command::new("EXISTS").key(key)).await;
    assert_eq!(there.unwrap().as_int(), Some(1));
}

/// The reputation that one process knows of.
async fn reputation(server: &RedisServer, lasts: Duration) -> Reputation {
    let redis = through(patient(server).await);
    let builder = Reputation::builder(Clock::system()).threshold(10);
    builder.lasts(lasts).shared(redis).build().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_suspicious_to_one_process_is_to_all_until_forgiven_or_forgotten() {
    let server = RedisServer::start().await;
    let here = reputation(&server, HOUR).await;
    let there = reputation(&server, HOUR).await;
    let brief = reputation(&server, BRIEF).await;
    assert!(here.signal("ada", 10));
    eventually(SOON, async || there.is_suspicious("ada")).await;
    assert!(!there.is_suspicious("bob"));
    assert!(there.forgive("ada").await);
    assert!(!there.is_suspicious("ada"));

    assert!(brief.signal("bob", 10));
    eventually(SOON, async || there.is_suspicious("bob")).await;
    eventually(SOON, async || !there.is_suspicious("bob")).await;
    assert!(!brief.is_suspicious("bob"));
}
