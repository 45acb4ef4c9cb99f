//! Decisions per key: in the process, and through Redis.
//!
//! In the process against governor, and as a layer against tower-governor, in a
//! program of its own. Through Redis against one EVALSHA for each request, and
//! against rate-limiter-flexible in node, on the same server.

mod bare;
mod shared;
mod zipf;

use std::sync::Arc;

use maxscale_core::{BoxError, Chain};
use maxscale_measure::{Bar, Op, Plan, Report};
use maxscale_tests::RedisServer;

use crate::peer::{self, Npm};
use shared::{KEYS, Ours, Question, TASKS, asked, hot, ours, wide};

/// In the process, and by leases.
const VS_GOVERNOR: [&str; 4] = [
    "limits.local_vs_governor_ns",
    "limits.leased_vs_governor_ns",
    "limits.leased_hot_vs_governor_threads",
    "limits.layer_vs_tower_governor",
];

/// Many keys, and one that all ask for.
const VS_FLEXIBLE: [&str; 2] = [
    "limits.redis_vs_rate_limiter_flexible",
    "limits.strict_vs_rate_limiter_flexible",
];

pub(crate) async fn run(plan: &Plan, report: &mut Report) -> Result<(), BoxError> {
    peer::rust(plan, report, "limits", &VS_GOVERNOR).await?;
    let server = RedisServer::start().await;
    shared::run(plan, report, &server).await?;
    if plan.is_quick() {
        peer::skip(report, &VS_FLEXIBLE);
        return Ok(());
    }
    let [many, one] = VS_FLEXIBLE;
    // Nobody moves a limit out of node to have it slower.
    flexible(plan, report, &server, (many, 1.0, KEYS)).await?;
    flexible(plan, report, &server, (one, 2.5, 1)).await
}

async fn flexible(
    plan: &Plan,
    report: &mut Report,
    server: &RedisServer,
    (name, target, keys): (&'static str, f64, u32),
) -> Result<(), BoxError> {
    let url = server.url();
    let arguments = [url.clone(), keys.to_string(), TASKS.to_string()];
    let peer = match Npm::start("limits", &arguments).await {
        Ok(peer) => peer,
        Err(error) => {
            report.note(&format!("no peer: {}", Chain(&*error)));
            report.missing(name);
            return Ok(());
        }
    };
    // Every request asks the server.
    let policy = if keys == 1 { hot()? } else { wide()? }.strict();
    let question = Arc::new(Question::of(name, target, keys, policy));
    let mut rounds = plan.compare();
    while !rounds.are_enough() {
        let (redis, limits) = ours(&url).await?;
        let ours = |count| asked(TASKS, count, Ours(limits.clone(), question.clone()));
        let theirs = |count| {
            let peer = peer.clone();
            async move { peer.turn(count).await }
        };
        rounds.round(ours, theirs).await?;
        redis.close().await;
    }
    let speed = rounds.speed();
    report.note(&format!("{name}: {speed}"));
    report.bar(Bar {
        name,
        measured: speed.value,
        op: Op::AtLeast,
        target,
    });
    Ok(())
}
