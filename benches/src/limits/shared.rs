//! Limits through Redis, against one EVALSHA for each request: as many wait at once
//! on both sides, and both sides decide the same.

use std::sync::Arc;
use std::time::Duration;

use maxscale_core::BoxError;
use maxscale_core::clock::Clock;
use maxscale_core::keys::{KeyRing, Secret};
use maxscale_core::limit::{Charge, Limits, LocalLimits, Policy, Rate, RedisLimits, Source};
use maxscale_core::redis::{Command, Redis, RedisConfig};
use maxscale_measure::{Bar, Op, Plan, Report};
use maxscale_tests::RedisServer;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::bare::{Bare, Numbers};
use super::zipf::zipf;

pub(super) const KEYS: u32 = 10_000;
pub(super) const TASKS: u32 = 64;
const PATIENCE: Duration = Duration::from_secs(5);

/// More than a run takes of any key.
const MANY: u32 = 100_000;
const MANY_NUMBERS: Numbers = Numbers(10, 1_000_000);

/// Both sides, on connections of their own.
struct Sides {
    redis: Redis,
    limits: Limits,
    bare: Bare,
}

// === impl Sides ===

impl Sides {
    async fn open(server: &RedisServer) -> Result<Self, BoxError> {
        let (redis, limits) = ours(&server.url()).await?;
        let bare = Bare::open(&server.url()).await?;
        Ok(Self {
            redis,
            limits,
            bare,
        })
    }

    async fn close(self) -> Result<(), BoxError> {
        self.limits.hand_back().await;
        self.redis.close().await;
        self.bare.close().await
    }
}

pub(super) async fn ours(url: &str) -> Result<(Redis, Limits), BoxError> {
    // Redis, both sides and whatever else runs share the cores: a stall is not
    // an error here.
    let redis = Redis::open(RedisConfig::new(url)?.timeout(PATIENCE));
    if !redis.wait_ready(PATIENCE).await {
        return Err("redis does not answer".into());
    }
    let ring = KeyRing::new(1, Secret::new([7; 32]))?;
    let shared = RedisLimits::new(redis.clone(), "bench:", ring);
    let limits = Limits::shared(shared, LocalLimits::new(Clock::system()));
    Ok((redis, limits))
}

/// The policy that admits all of a run, by one EVALSHA or by leases.
pub(super) fn wide() -> Result<Policy, BoxError> {
    let rate = Rate::per_second(MANY)?.burst(MANY)?;
    Ok(Policy::new("bench", rate)?)
}

/// The policy that admits all of a run to a single key.
pub(super) fn hot() -> Result<Policy, BoxError> {
    let rate = Rate::per_second(1_000_000)?.burst(200_000_000)?;
    Ok(Policy::new("hot", rate)?)
}

const HOT_NUMBERS: Numbers = Numbers(1, 200_000_000);

/// A policy that has admitted its only request.
fn narrow(name: &str) -> Result<Policy, BoxError> {
    let rate = Rate::new(1, Duration::from_secs(3_600))?;
    Ok(Policy::new(name, rate)?)
}

const NARROW_NUMBERS: Numbers = Numbers(3_600_000_000, 3_600_000_000);

/// Keys of a bar's own: what one has used up is not asked for by another.
fn names(bar: &str, count: u32) -> Arc<[String]> {
    (0..count).map(|n| format!("{bar}-account-{n}")).collect()
}

/// `count` calls, by so many tasks at once.
async fn spread<F, A>(tasks: u32, count: u32, call: F) -> Result<(), BoxError>
where
    F: Fn(u32) -> A + Clone + Send + 'static,
    A: Future<Output = Result<(), BoxError>> + Send,
{
    let mut running = JoinSet::new();
    for task in 0..tasks.min(count) {
        let call = call.clone();
        running.spawn(async move {
            for n in (task..count).step_by(tasks as usize) {
                call(n).await?;
            }
            Ok::<_, BoxError>(())
        });
    }
    while let Some(ended) = running.join_next().await {
        ended??;
    }
    Ok(())
}

fn bar(report: &mut Report, name: &str, measured: f64, op: Op, target: f64) {
    report.bar(Bar {
        name,
        measured,
        op,
        target,
    });
}

/// What a comparison asks: the same of both sides.
pub(super) struct Question {
    name: &'static str,
    target: f64,
    tasks: u32,
    keys: Arc<[String]>,
    /// Which key the n-th request asks for.
    order: Arc<[u32]>,
    policy: Policy,
    numbers: Numbers,
    admitted: bool,
}

/// One who asks; each task has its own, so that neither side waits for threads that
/// count who else has it.
pub(super) trait Side: Clone + Send + 'static {
    fn ask(&self, n: u32) -> impl Future<Output = Result<(), BoxError>> + Send;
}

#[derive(Clone)]
pub(super) struct Ours(pub(super) Limits, pub(super) Arc<Question>);

#[derive(Clone)]
struct Theirs(Bare, Arc<Question>);

// === impl Ours ===

impl Side for Ours {
    async fn ask(&self, n: u32) -> Result<(), BoxError> {
        let Self(limits, question) = self;
        let decision = limits.check(&question.policy, question.key(n)).await;
        question.judge(decision.is_allowed() && decision.source() != Source::Fallback)
    }
}

// === impl Theirs ===

impl Side for Theirs {
    async fn ask(&self, n: u32) -> Result<(), BoxError> {
        let Self(bare, question) = self;
        question.judge(bare.take(question.key(n), question.numbers).await?)
    }
}

/// `count` questions, by so many tasks at once.
pub(super) async fn asked(tasks: u32, count: u32, side: impl Side) -> Result<(), BoxError> {
    let mut running = JoinSet::new();
    for task in 0..tasks.min(count) {
        let side = side.clone();
        running.spawn(async move {
            for n in (task..count).step_by(tasks as usize) {
                side.ask(n).await?;
                // As whoever serves requests does.
                tokio::task::consume_budget().await;
            }
            Ok::<_, BoxError>(())
        });
    }
    while let Some(ended) = running.join_next().await {
        ended??;
    }
    Ok(())
}

async fn versus(
    plan: &Plan,
    report: &mut Report,
    server: &RedisServer,
    question: Question,
) -> Result<(), BoxError> {
    let question = Arc::new(question);
    let mut rounds = plan.compare();
    while !rounds.are_enough() {
        let sides = Sides::open(server).await?;
        let ours = |count| {
            let side = Ours(sides.limits.clone(), question.clone());
            asked(question.tasks, count, side)
        };
        let theirs = |count| {
            let side = Theirs(sides.bare.clone(), question.clone());
            asked(question.tasks, count, side)
        };
        rounds.round(ours, theirs).await?;
        sides.close().await?;
    }
    let speed = rounds.speed();
    report.note(&format!("{}: {speed}", question.name));
    bar(
        report,
        question.name,
        speed.value,
        Op::AtLeast,
        question.target,
    );
    Ok(())
}

impl Question {
    fn key(&self, n: u32) -> &str {
        let place = self.order[n as usize % self.order.len()];
        &self.keys[place as usize]
    }

    /// A denial costs less, and would be measured as a fast decision, or the reverse.
    fn judge(&self, admitted: bool) -> Result<(), BoxError> {
        match admitted == self.admitted {
            true => Ok(()),
            false => Err("a request was not decided as it should be".into()),
        }
    }

    pub(super) fn of(name: &'static str, target: f64, keys: u32, policy: Policy) -> Self {
        Self {
            name,
            target,
            tasks: TASKS,
            keys: names(name, keys),
            order: (0..keys).collect(),
            policy,
            numbers: MANY_NUMBERS,
            admitted: true,
        }
    }
}

pub(super) async fn run(
    plan: &Plan,
    report: &mut Report,
    server: &RedisServer,
) -> Result<(), BoxError> {
    let strict = wide()?.strict();
    let questions = [
        Question::of("limits.strict_vs_evalsha", 0.9, KEYS, strict.clone()),
        Question {
            tasks: 512,
            numbers: HOT_NUMBERS,
            ..Question::of("limits.combining_vs_evalsha", 10.0, 1, hot()?.strict())
        },
        Question {
            numbers: HOT_NUMBERS,
            ..Question::of("limits.leased_vs_evalsha", 100.0, 1, hot()?)
        },
        Question {
            numbers: NARROW_NUMBERS,
            admitted: false,
            ..Question::of("limits.denied_vs_evalsha", 100.0, 1, narrow("denied")?)
        },
    ];
    for question in questions {
        if !question.admitted {
            used_up(server, &question).await?;
        }
        versus(plan, report, server, question).await?;
    }
    let keys = plan.pick(1_000_000, 10_000);
    let million = Question {
        order: zipf(keys, plan.pick(4_000_000, 40_000)),
        ..Question::of("limits.million_keys_vs_evalsha", 0.9, keys, strict)
    };
    versus(plan, report, server, million).await?;
    four_policies(plan, report, server).await?;
    commands_per_request(plan, report, server).await
}

/// Who is denied by both sides has used up both.
async fn used_up(server: &RedisServer, question: &Question) -> Result<(), BoxError> {
    let sides = Sides::open(server).await?;
    sides.limits.check(&question.policy, question.key(0)).await;
    sides.bare.take(question.key(0), question.numbers).await?;
    sides.close().await
}

/// Four policies of one principal, against a trip for each.
async fn four_policies(
    plan: &Plan,
    report: &mut Report,
    server: &RedisServer,
) -> Result<(), BoxError> {
    let name = "limits.four_policies_vs_four_trips";
    let rate = Rate::per_second(MANY)?.burst(MANY)?;
    let mut charges = Vec::new();
    for name in ["a", "b", "c", "d"] {
        charges.push(Charge::from(Policy::new(name, rate)?.strict()));
    }
    let (charges, keys): (Arc<[Charge]>, _) = (charges.into(), names(name, KEYS));
    let mut rounds = plan.compare();
    while !rounds.are_enough() {
        let sides = Sides::open(server).await?;
        let ours = |count| {
            let (limits, charges, keys) = (sides.limits.clone(), charges.clone(), keys.clone());
            spread(TASKS, count, move |n| {
                let (limits, charges, keys) = (limits.clone(), charges.clone(), keys.clone());
                async move {
                    let key = &keys[(n % KEYS) as usize];
                    match limits.check_each(key, &charges).await.is_allowed() {
                        true => Ok(()),
                        false => Err("a request was denied".into()),
                    }
                }
            })
        };
        let theirs = |count| {
            let (bare, keys) = (sides.bare.clone(), keys.clone());
            spread(TASKS, count, move |n| {
                let (bare, keys) = (bare.clone(), keys.clone());
                async move {
                    let key = &keys[(n % KEYS) as usize];
                    for policy in ["a", "b", "c", "d"] {
                        bare.take(&format!("{key}:{policy}"), MANY_NUMBERS).await?;
                    }
                    Ok(())
                }
            })
        };
        rounds.round(ours, theirs).await?;
        sides.close().await?;
    }
    let speed = rounds.speed();
    report.note(&format!("{name}: {speed}"));
    bar(report, name, speed.value, Op::AtLeast, 2.0);
    Ok(())
}

/// How many commands a request costs where more come than are admitted.
async fn commands_per_request(
    plan: &Plan,
    report: &mut Report,
    server: &RedisServer,
) -> Result<(), BoxError> {
    let seconds = Duration::from_secs(plan.pick(10, 1).into());
    for (tier, per_minute) in [("premium", 10_000), ("standard", 1_000), ("free", 100)] {
        let (per_request, admitted) = saturated(server, tier, per_minute, seconds).await?;
        report.note(&format!(
            "limits.leased_redis_per_request: {per_request:.5} for {tier}, {admitted:.3} for \
             each that is admitted"
        ));
    }
    let (measured, admitted) = saturated(server, "million", 1_000_000, seconds).await?;
    let name = "limits.leased_redis_per_request";
    report.note(&format!("{name}: {admitted:.4} for each that is admitted"));
    bar(report, name, measured, Op::AtMost, 0.01);
    Ok(())
}

/// Commands for each request, and for each that was admitted.
async fn saturated(
    server: &RedisServer,
    name: &str,
    per_minute: u32,
    time: Duration,
) -> Result<(f64, f64), BoxError> {
    let (redis, limits) = ours(&server.url()).await?;
    let policy = Policy::new(name, Rate::per_minute(per_minute)?)?;
    // The burst is gone.
    while limits.check(&policy, "one").await.is_allowed() {}
    let before = commands(&redis).await?;
    let end = Instant::now() + time;
    let mut tasks = JoinSet::new();
    for _ in 0..TASKS {
        let (limits, policy) = (limits.clone(), policy.clone());
        tasks.spawn(async move {
            let (mut asked, mut admitted) = (0_u64, 0_u64);
            while Instant::now() < end {
                asked += 1;
                admitted += u64::from(limits.check(&policy, "one").await.is_allowed());
                tokio::task::consume_budget().await;
            }
            (asked, admitted)
        });
    }
    let (mut asked, mut admitted) = (0, 0);
    for (one, of_it) in tasks.join_all().await {
        asked += one;
        admitted += of_it;
    }
    let sent = (commands(&redis).await? - before) as f64;
    redis.close().await;
    Ok((sent / asked as f64, sent / admitted.max(1) as f64))
}

async fn commands(redis: &Redis) -> Result<i64, BoxError> {
    let stats = Command::new("INFO").arg("commandstats");
    let stats = redis.command(stats).await?.into_bytes();
    let stats = stats.ok_or("INFO told nothing")?;
    let stats = std::str::from_utf8(&stats)?;
    let calls = stats.split("cmdstat_evalsha:calls=").nth(1);
    let calls = calls.and_then(|rest| rest.split(',').next());
    Ok(calls.unwrap_or("0").parse()?)
}
