//! Decisions in one process, against governor: the same keys, one thread.

use std::num::NonZeroU32;
use std::sync::Arc;

use governor::DefaultKeyedRateLimiter;
use maxscale_core::BoxError;
use maxscale_core::clock::Clock;
use maxscale_core::limit::{LocalLimits, Rate, Rule};
use maxscale_measure::{Bar, Op, Plan, Report};

const KEYS: u32 = 10_000;

/// Per second, and at once: more than a run takes of any key.
const MANY: NonZeroU32 = NonZeroU32::new(100_000).unwrap();

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), BoxError> {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let plan = if quick { Plan::QUICK } else { Plan::FULL };
    local_vs_governor(&plan, &mut Report::default()).await
}

async fn local_vs_governor(plan: &Plan, report: &mut Report) -> Result<(), BoxError> {
    let name = "limits.local_vs_governor_ns";
    let keys: Arc<[String]> = (0..KEYS).map(|n| format!("account-{n}")).collect();
    let rule = Rate::per_second(MANY.get())?.burst(MANY.get())?.into();
    let mut rounds = plan.compare();
    while !rounds.are_enough() {
        let limits = LocalLimits::new(Clock::system());
        let governor = governor::Quota::per_second(MANY);
        let governor = Arc::new(DefaultKeyedRateLimiter::keyed(governor));
        let ours = |count| ours(limits.clone(), rule, keys.clone(), count);
        let theirs = |count| theirs(governor.clone(), keys.clone(), count);
        rounds.round(ours, theirs).await?;
    }
    let cost = rounds.cost();
    report.note(&format!("{name}: {cost}"));
    // Ours hashes a key twice under secrets and holds a fixed number of keys of
    // fixed size; governor hashes once and keeps every text. That may take up to
    // twice its time; two thirds more was measured.
    report.bar(Bar {
        name,
        measured: cost.value,
        op: Op::AtMost,
        target: 2.0,
    });
    Ok(())
}

// A denial would be measured as a fast decision, so each has to be an admission.

async fn ours(
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

async fn theirs(
    governor: Arc<DefaultKeyedRateLimiter<String>>,
    keys: Arc<[String]>,
    count: u32,
) -> Result<(), BoxError> {
    for key in keys.iter().cycle().take(count as usize) {
        governor
            .check_key(key)
            .map_err(|_| "a request was denied")?;
    }
    Ok(())
}
