//! Decisions in one process against governor, of the same keys: counted here, or
//! spent of leases from Redis; and a layer of an axum router against
//! tower-governor.

mod layer;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::DefaultKeyedRateLimiter;
use maxscale_core::BoxError;
use maxscale_core::clock::Clock;
use maxscale_core::keys::{KeyRing, Secret};
use maxscale_core::limit::{Limits, LocalLimits, Policy, Rate, RedisLimits, Rule, Source};
use maxscale_core::redis::{Redis, RedisConfig};
use maxscale_measure::{Bar, Op, Plan, Report};
use maxscale_tests::RedisServer;
use tokio::task::JoinSet;

const KEYS: u32 = 10_000;

/// Per second, and at once: more than a run takes of any key.
const MANY: NonZeroU32 = NonZeroU32::new(100_000).unwrap();

/// The same where all ask for one key.
const HOT: u32 = 4_000_000_000;

/// After so many requests a task lets others run, as whoever serves requests does: what
/// fills leases is a task too.
const IN_A_ROW: u32 = 128;

const PATIENCE: Duration = Duration::from_secs(5);

type Governor = Arc<DefaultKeyedRateLimiter<String>>;

// With threads to spare for what fills the leases, beside those that only decide.
#[tokio::main(worker_threads = 4)]
async fn main() -> Result<(), BoxError> {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let plan = if quick { Plan::QUICK } else { Plan::FULL };
    let report = &mut Report::default();
    local_vs_governor(&plan, report).await?;
    let server = RedisServer::start().await;
    leased_vs_governor(&plan, report, &server).await?;
    hot_vs_governor(&plan, report, &server).await?;
    layer::vs_tower_governor(&plan, report).await
}

fn keys(count: u32) -> Arc<[String]> {
    (0..count).map(|n| format!("account-{n}")).collect()
}

fn bar(report: &mut Report, name: &str, measured: f64, op: Op, target: f64) {
    report.bar(Bar {
        name,
        measured,
        op,
        target,
    });
}

async fn local_vs_governor(plan: &Plan, report: &mut Report) -> Result<(), BoxError> {
    let name = "limits.local_vs_governor_ns";
    let keys = keys(KEYS);
    let rule = Rate::per_second(MANY.get())?.burst(MANY.get())?.into();
    let mut rounds = plan.compare();
    while !rounds.are_enough() {
        let limits = LocalLimits::new(Clock::system());
        let governor = governor_of(governor::Quota::per_second(MANY));
        let ours = |count| counted(limits.clone(), rule, keys.clone(), count);
        let theirs = |count| theirs(governor.clone(), keys.clone(), count);
        rounds.round(ours, theirs).await?;
    }
    let cost = rounds.cost();
    report.note(&format!("{name}: {cost}"));
    // Ours hashes a key twice under secrets and holds a fixed number of keys of
    // fixed size; governor hashes once and keeps every text. That may take up to
    // twice its time.
    bar(report, name, cost.value, Op::AtMost, 2.0);
    Ok(())
}

/// All decisions by leases but the few that fill them.
async fn leased_vs_governor(
    plan: &Plan,
    report: &mut Report,
    server: &RedisServer,
) -> Result<(), BoxError> {
    let name = "limits.leased_vs_governor_ns";
    let rate = Rate::per_second(MANY.get())?.burst(MANY.get())?;
    // A lone task asks so seldom for each of many keys, while each request waits, that
    // short leases would never be worth it: what is measured is a lease that is there.
    let policy = Policy::new("bench", rate)?.leased(Duration::from_secs(60))?;
    let keys = keys(KEYS);
    let (limits, redis) = shared(server).await?;
    leased(limits.clone(), policy.clone(), keys.clone(), 40 * KEYS).await?;
    let mut rounds = plan.compare();
    while !rounds.are_enough() {
        let governor = governor_of(governor::Quota::per_second(MANY));
        let ours = |count| leased(limits.clone(), policy.clone(), keys.clone(), count);
        let theirs = |count| theirs(governor.clone(), keys.clone(), count);
        rounds.round(ours, theirs).await?;
    }
    redis.close().await;
    let cost = rounds.cost();
    report.note(&format!("{name}: {cost}"));
    bar(report, name, cost.value, Op::AtMost, 1.3);
    Ok(())
}

/// As many threads as there are cores ask for one key.
async fn hot_vs_governor(
    plan: &Plan,
    report: &mut Report,
    server: &RedisServer,
) -> Result<(), BoxError> {
    let name = "limits.leased_hot_vs_governor_threads";
    let rate = Rate::per_second(1_000_000)?.burst(HOT)?;
    let (keys, policy) = (keys(1), Policy::new("hot", rate)?);
    let threads = u32::try_from(std::thread::available_parallelism()?.get())?;
    let (limits, redis) = shared(server).await?;
    let nanosecond = governor::Quota::with_period(Duration::from_nanos(1)).ok_or("a period")?;
    let mut rounds = plan.compare();
    while !rounds.are_enough() {
        let burst = NonZeroU32::new(HOT).ok_or("a burst")?;
        let governor = governor_of(nanosecond.allow_burst(burst));
        let ours = |count| {
            let (limits, policy, keys) = (limits.clone(), policy.clone(), keys.clone());
            at_once(threads, count, move |count| {
                leased(limits.clone(), policy.clone(), keys.clone(), count)
            })
        };
        let theirs = |count| {
            let (governor, keys) = (governor.clone(), keys.clone());
            at_once(threads, count, move |count| {
                theirs(governor.clone(), keys.clone(), count)
            })
        };
        rounds.round(ours, theirs).await?;
    }
    redis.close().await;
    let speed = rounds.speed();
    report.note(&format!("{name}: {speed}, {threads} threads"));
    bar(report, name, speed.value, Op::AtLeast, 1.5);
    Ok(())
}

async fn at_once<W, F>(threads: u32, count: u32, work: W) -> Result<(), BoxError>
where
    W: Fn(u32) -> F + Clone + Send + 'static,
    F: Future<Output = Result<(), BoxError>> + Send + 'static,
{
    let mut running = JoinSet::new();
    for _ in 0..threads {
        let work = work.clone();
        running.spawn(async move {
            for _ in 0..count / threads / IN_A_ROW + 1 {
                work(IN_A_ROW).await?;
                tokio::task::yield_now().await;
            }
            Ok::<_, BoxError>(())
        });
    }
    while let Some(ended) = running.join_next().await {
        ended??;
    }
    Ok(())
}

fn governor_of(quota: governor::Quota) -> Governor {
    Arc::new(DefaultKeyedRateLimiter::keyed(quota))
}

async fn shared(server: &RedisServer) -> Result<(Limits, Redis), BoxError> {
    let redis = Redis::open(RedisConfig::new(&server.url())?.timeout(PATIENCE));
    if !redis.wait_ready(PATIENCE).await {
        return Err("redis does not answer".into());
    }
    let ring = KeyRing::new(1, Secret::new([7; 32]))?;
    let shared = RedisLimits::new(redis.clone(), "bench:", ring);
    let limits = Limits::shared(shared, LocalLimits::new(Clock::system()));
    Ok((limits, redis))
}

// A denial would be measured as a fast decision, so each has to be an admission.

async fn counted(
    limits: LocalLimits,
    rule: Rule,
    keys: Arc<[String]>,
    count: u32,
) -> Result<(), BoxError> {
    for key in keys.iter().cycle().take(count as usize) {
        let (granted, _) = limits.take_now(key, "bench", &rule, 1);
        if !granted {
            return Err("a request was denied".into());
        }
    }
    Ok(())
}

async fn leased(
    limits: Limits,
    policy: Policy,
    keys: Arc<[String]>,
    count: u32,
) -> Result<(), BoxError> {
    for key in keys.iter().cycle().take(count as usize) {
        let decision = limits.check(&policy, key).await;
        if !decision.is_allowed() || decision.source() == Source::Fallback {
            return Err("a request was denied".into());
        }
    }
    Ok(())
}

async fn theirs(governor: Governor, keys: Arc<[String]>, count: u32) -> Result<(), BoxError> {
    for key in keys.iter().cycle().take(count as usize) {
        governor
            .check_key(key)
            .map_err(|_| "a request was denied")?;
    }
    Ok(())
}
