//! A value that is near, against the same value in a bare moka cache; and the others.

mod far;
mod http;
mod idle;
mod listener;
mod news;

use std::convert::Infallible;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use maxscale_cache::{Cache, CacheSpec, Hub};
use maxscale_core::BoxError;
use maxscale_measure::{Bar, Op, Plan, Report};

use crate::peer;

pub(crate) use listener::listen;

/// Longer than any run, so that every read is a hit.
const TTL: Duration = Duration::from_secs(3_600);
const KEYS: u32 = 1_024;

/// How long a server may take to be there.
const READY: Duration = Duration::from_secs(30);

/// A cache as one would set it up by hand for the same purpose.
type Bare = moka::sync::Cache<String, Arc<String>>;

pub(crate) async fn run(plan: &Plan, report: &mut Report) -> Result<(), BoxError> {
    l1_hit_vs_moka(plan, report).await?;
    far::run(plan, report).await?;
    news::run(plan, report).await?;
    idle::run(plan, report).await?;
    http::hit_vs_static(plan, report).await?;
    let peers = [
        "cache.get_or_load_vs_amalgam",
        "cache.get_or_load_vs_multi_tier_cache",
        "cache.get_or_load_vs_cached",
        "cache.http_hit_vs_axum_response_cache",
    ];
    peer::rust(plan, report, "cache", &peers).await
}

async fn l1_hit_vs_moka(plan: &Plan, report: &mut Report) -> Result<(), BoxError> {
    let name = "cache.l1_hit_vs_moka";
    let ids: Arc<[String]> = (0..KEYS).map(|n| format!("account-{n}")).collect();
    let mut rounds = plan.compare();
    while !rounds.are_enough() {
        let cache = filled(&ids).await?;
        let bare = filled_bare(&ids);
        let near = |count| near(cache.clone(), ids.clone(), count);
        let bare = |count| near_bare(bare.clone(), ids.clone(), count);
        rounds.round(near, bare).await?;
    }
    let cost = rounds.cost();
    report.note(&format!("{name}: {cost}"));
    bar(report, name, cost.value, Op::AtMost, 1.35);
    Ok(())
}

async fn filled(ids: &[String]) -> Result<Cache<String>, BoxError> {
    let cache = Hub::builder()
        .build()
        .cache(CacheSpec::new("name", 1).l1_ttl(TTL).l2_ttl(TTL));
    for id in ids {
        let value = id.clone();
        let load = || async { Ok::<_, Infallible>(Some(value)) };
        cache.get_or_load(id, load).await?;
    }
    Ok(cache)
}

fn filled_bare(ids: &[String]) -> Bare {
    let cache = Bare::builder()
        .max_capacity(u64::from(KEYS) * 2)
        .time_to_live(TTL)
        .build();
    for id in ids {
        cache.insert(id.clone(), Arc::new(id.clone()));
    }
    cache
}

async fn near(cache: Cache<String>, ids: Arc<[String]>, count: u32) -> Result<(), BoxError> {
    for id in ids.iter().cycle().take(count as usize) {
        black_box(cache.get(id).await.ok_or("a miss")?);
    }
    Ok(())
}

async fn near_bare(cache: Bare, ids: Arc<[String]>, count: u32) -> Result<(), BoxError> {
    for id in ids.iter().cycle().take(count as usize) {
        black_box(cache.get(id).ok_or("a miss")?);
    }
    Ok(())
}

/// The time that such a share of them does not exceed; the shortest is the first.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a share of a number of calls"
)]
fn at(times: &[Duration], share: f64) -> f64 {
    let last = times.len().saturating_sub(1);
    times[(last as f64 * share) as usize].as_secs_f64()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn bar(report: &mut Report, name: &'static str, measured: f64, op: Op, target: f64) {
    report.bar(Bar {
        name,
        measured,
        op,
        target,
    });
}
