//! A value that is near, asked for with its load at hand: caches of so many values, each
//! for so long, that load a value once for all who ask. All that is measured are hits.

use std::convert::Infallible;
use std::future::Future;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use amalgam::EntryOptions;
use cached::macros::cached;
use maxscale_cache::{Cache, CacheSpec, Hub};
use maxscale_core::BoxError;
use maxscale_measure::{Bar, Op, Plan, Report};
use multi_tier_cache::{
    Bytes, CacheManager, CacheStrategy, CacheSystemBuilder, MokaCache, MokaCacheConfig, TierConfig,
};
use tokio::task::JoinSet;

/// Longer than any run.
const TTL: Duration = Duration::from_secs(3_600);
const TASKS: u32 = 8;
const KEYS: u32 = 1_024;
/// How many values there is room for.
const ROOM: u32 = 2 * KEYS;

/// A cache that is asked for values of which each is its own id.
trait Asked: Clone + Send + 'static {
    fn ask(&self, id: &str) -> impl Future<Output = Result<(), BoxError>> + Send;
}

/// [`cached`] keeps what a function returns in a static of its own.
#[derive(Clone, Copy)]
struct Cached;

pub(crate) async fn run(plan: &Plan, report: &mut Report) -> Result<(), BoxError> {
    let amalgam = amalgam::Cache::<Arc<String>>::builder()
        .max_capacity(ROOM.into())
        .default_options(EntryOptions::default().with_duration(TTL))
        .build();
    let name = "cache.get_or_load_vs_amalgam";
    compare(plan, report, name, 1.5, amalgam).await?;

    let near = MokaCache::new(MokaCacheConfig {
        max_capacity: ROOM.into(),
        time_to_live: TTL,
        time_to_idle: TTL,
    })?;
    let tiers = CacheSystemBuilder::new()
        .with_tier(Arc::new(near), TierConfig::as_l1())
        .build()
        .await?;
    let name = "cache.get_or_load_vs_multi_tier_cache";
    compare(plan, report, name, 1.0, tiers.cache_manager().clone()).await?;

    let name = "cache.get_or_load_vs_cached";
    compare(plan, report, name, 1.0, Cached).await
}

async fn compare(
    plan: &Plan,
    report: &mut Report,
    name: &str,
    target: f64,
    peer: impl Asked,
) -> Result<(), BoxError> {
    let ids: Arc<[String]> = (0..KEYS).map(|n| format!("account-{n}")).collect();
    let spec = CacheSpec::new("name", 1).l1_ttl(TTL).l2_ttl(TTL);
    let cache: Cache<String> = Hub::builder().build().cache(spec);
    ask_all(cache.clone(), ids.clone(), TASKS * KEYS).await?;
    ask_all(peer.clone(), ids.clone(), TASKS * KEYS).await?;
    let mut rounds = plan.compare();
    while !rounds.are_enough() {
        let ours = |count| ask_all(cache.clone(), ids.clone(), count);
        let theirs = |count| ask_all(peer.clone(), ids.clone(), count);
        rounds.round(ours, theirs).await?;
    }
    let speed = rounds.speed();
    report.note(&format!("{name}: {speed}, {TASKS} tasks"));
    report.bar(Bar {
        name,
        measured: speed.value,
        op: Op::AtLeast,
        target,
    });
    Ok(())
}

/// `count` reads by all tasks together, each task of one id after another.
async fn ask_all(cache: impl Asked, ids: Arc<[String]>, count: u32) -> Result<(), BoxError> {
    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        let (cache, ids) = (cache.clone(), ids.clone());
        tasks.spawn(async move {
            let first = (task * KEYS / TASKS) as usize;
            let count = count.div_ceil(TASKS) as usize;
            for id in ids.iter().cycle().skip(first).take(count) {
                cache.ask(id).await?;
            }
            Ok::<_, BoxError>(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(())
}

// === impl Asked ===

impl Asked for Cache<String> {
    async fn ask(&self, id: &str) -> Result<(), BoxError> {
        let value = id.to_owned();
        let load = || async { Ok::<_, Infallible>(Some(value)) };
        let found = self.get_or_load(id, load).await?;
        black_box(found.ok_or("nothing there")?);
        Ok(())
    }
}

impl Asked for amalgam::Cache<Arc<String>> {
    async fn ask(&self, id: &str) -> Result<(), BoxError> {
        let value = id.to_owned();
        let load = |it: amalgam::FactoryContext<_>| async { Ok(it.value(Arc::new(value))) };
        black_box(self.get_or_set(id, load).await?);
        Ok(())
    }
}

/// With values as bytes, which is the cheapest that it has: the others decode with each hit.
impl Asked for Arc<CacheManager> {
    async fn ask(&self, id: &str) -> Result<(), BoxError> {
        let value = id.to_owned();
        let load = || async { Ok(Bytes::from(value)) };
        let kept = CacheStrategy::Custom(TTL);
        black_box(self.get_or_compute_with(id, kept, load).await?);
        Ok(())
    }
}

impl Asked for Cached {
    async fn ask(&self, id: &str) -> Result<(), BoxError> {
        black_box(loaded(id).await);
        Ok(())
    }
}

// The form that loads once for all who ask, as the others do.
#[cached(
    max_size = 2_048,
    ttl_secs = 3_600,
    sync_writes = "by_key",
    key = "String",
    convert = { id.to_owned() }
)]
async fn loaded(id: &str) -> Arc<String> {
    Arc::new(id.to_owned())
}
