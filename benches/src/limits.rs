//! Decisions per key: in the process, and through Redis.
//!
//! In the process against governor, in a program of its own. Through Redis
//! against rate-limiter-flexible in node, on the same server: every request asks
//! the server on both sides, as many wait at once, and all are admitted.

use std::sync::Arc;
use std::time::Duration;

use maxscale_core::clock::Clock;
use maxscale_core::keys::{KeyRing, Secret};
use maxscale_core::limit::{Limits, LocalLimits, Policy, Rate, RedisLimits, Source};
use maxscale_core::redis::{Redis, RedisConfig};
use maxscale_core::{BoxError, Chain};
use maxscale_measure::{Bar, Op, Plan, Report};
use maxscale_tests::RedisServer;
use tokio::task::JoinSet;

use crate::peer::{self, Npm};

const KEYS: u32 = 10_000;
const TASKS: u32 = 64;
const PATIENCE: Duration = Duration::from_secs(5);

const VS_FLEXIBLE: &str = "limits.redis_vs_rate_limiter_flexible";

pub(crate) async fn run(plan: &Plan, report: &mut Report) -> Result<(), BoxError> {
    peer::rust(plan, report, "limits", &["limits.local_vs_governor_ns"]).await?;
    through_redis(plan, report).await
}

async fn through_redis(plan: &Plan, report: &mut Report) -> Result<(), BoxError> {
    if plan.is_quick() {
        peer::skip(report, &[VS_FLEXIBLE]);
        return Ok(());
    }
    let server = RedisServer::start().await;
    let url = server.url();
    let arguments = [url.clone(), KEYS.to_string(), TASKS.to_string()];
    let peer = match Npm::start("limits", &arguments).await {
        Ok(peer) => peer,
        Err(error) => {
            report.note(&format!("no peer: {}", Chain(&*error)));
            report.missing(VS_FLEXIBLE);
            return Ok(());
        }
    };
    let keys: Arc<[String]> = (0..KEYS).map(|n| format!("account-{n}")).collect();
    let mut rounds = plan.compare();
    while !rounds.are_enough() {
        // Redis, both sides and whatever else runs share the cores: a stall is not
        // an error here.
        let redis = Redis::open(RedisConfig::new(&url)?.timeout(PATIENCE));
        if !redis.wait_ready(PATIENCE).await {
            return Err("redis does not answer".into());
        }
        let ring = KeyRing::new(1, Secret::new([7; 32]))?;
        let shared = RedisLimits::new(redis.clone(), "bench:", ring);
        let limits = Limits::shared(shared, LocalLimits::new(Clock::system()));
        let ours = |count| take(limits.clone(), keys.clone(), count);
        let theirs = |count| {
            let peer = peer.clone();
            async move { peer.turn(count).await }
        };
        rounds.round(ours, theirs).await?;
        redis.close().await;
    }
    let speed = rounds.speed();
    report.note(&format!("{VS_FLEXIBLE}: {speed}"));
    // Nobody moves a limit out of node to have it slower.
    report.bar(Bar {
        name: VS_FLEXIBLE,
        measured: speed.value,
        op: Op::AtLeast,
        target: 1.0,
    });
    Ok(())
}

/// `count` decisions, by as many tasks as take part in one.
async fn take(limits: Limits, keys: Arc<[String]>, count: u32) -> Result<(), BoxError> {
    let mut tasks = JoinSet::new();
    for task in 0..TASKS.min(count) {
        let (limits, keys) = (limits.clone(), keys.clone());
        tasks.spawn(async move {
            let policy = policy()?;
            for n in (task..count).step_by(TASKS as usize) {
                let key = &keys[(n % KEYS) as usize];
                // A denial costs less, and would be measured as a fast decision.
                let decision = limits.check(&policy, key).await;
                if !decision.is_allowed() || decision.source() != Source::Store {
                    return Err("a request was denied".into());
                }
            }
            Ok::<_, BoxError>(())
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(())
}

/// More than a run takes of any key.
fn policy() -> Result<Policy, BoxError> {
    let rate = Rate::per_second(100_000)?.burst(100_000)?;
    Ok(Policy::new("bench", rate)?)
}
