//! Values that are far, through Redis, against the bare driver on the same server.

use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;

use fred::prelude::{Builder, Client, ClientLike as _, Config, KeysInterface as _, Value};
use fred::types::{ClusterHash, CustomCommand};
use maxscale_cache::remote::{FENCE_TTL, RedisRemote, Remote as _};
use maxscale_cache::{Cache, CacheSpec, Hub};
use maxscale_core::BoxError;
use maxscale_core::redis::{Redis, RedisConfig};
use maxscale_measure::{Op, Plan, Report};
use maxscale_tests::{RedisCluster, RedisServer};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::{READY, at, bar, median};

const KEYS: u32 = 1_024;
const TASKS: u32 = 64;

/// What a value is: 256 bytes as encoded.
fn value() -> String {
    "x".repeat(254)
}

pub(super) async fn run(plan: &Plan, report: &mut Report) -> Result<(), BoxError> {
    let server = RedisServer::start().await;
    let ids: Vec<_> = (0..KEYS).map(|n| format!("account-{n}")).collect();
    let (cache, redis) = ours(&server.url(), &ids).await?;
    let bare = bare(&server.url(), &ids).await?;

    let mut rounds = plan.compare();
    while !rounds.are_enough() {
        let ours = |count| {
            let (cache, ids) = (cache.clone(), ids.clone());
            spread(count, move |n| {
                let (cache, id) = (cache.clone(), ids[n % ids.len()].clone());
                async move {
                    cache
                        .get(&id)
                        .await
                        .map(drop)
                        .ok_or_else(|| "a miss".into())
                }
            })
        };
        let theirs = |count| {
            let (bare, ids) = (bare.clone(), ids.clone());
            spread(count, move |n| {
                let (bare, id) = (bare.clone(), ids[n % ids.len()].clone());
                async move { get(&bare, &id).await }
            })
        };
        rounds.round(ours, theirs).await?;
    }
    let name = "cache.l2_throughput_vs_fred";
    let speed = rounds.speed();
    report.note(&format!("{name}: {speed}"));
    bar(report, name, speed.value, Op::AtLeast, 0.8);

    let calls = plan.pick(2_000, 50);
    let rounds = plan.pick(11, 3);
    let (mut hits, mut fills) = (Vec::new(), Vec::new());
    let remote = RedisRemote::new(redis);
    let sealed = bytes::Bytes::from(value());
    let ttl = Duration::from_secs(3_600);
    for _ in 0..rounds {
        let near = timed(calls, async |n| {
            let found = cache.get(&ids[n % ids.len()]).await;
            found.map(drop).ok_or_else(|| "a miss".into())
        });
        let near = near.await?;
        let far = timed(calls, async |n| get(&bare, &ids[n % ids.len()]).await).await?;
        hits.push(at(&near, 0.95) / at(&far, 0.95));

        let fence = remote.claim("filled", 0, ttl, FENCE_TTL).await?.found.fence;
        let near = timed(calls, async |_| {
            let filled = remote.fill("filled", fence, 0, sealed.clone(), ttl).await?;
            filled.then_some(()).ok_or_else(|| "refused".into())
        });
        let near = near.await?;
        let far = timed(calls, async |_| set(&bare, "set", sealed.clone()).await);
        fills.push(at(&near, 0.5) / at(&far.await?, 0.5));
    }
    bar(
        report,
        "cache.l2_p95_vs_fred",
        median(hits),
        Op::AtMost,
        1.25,
    );
    bar(
        report,
        "cache.fenced_fill_vs_set",
        median(fills),
        Op::AtMost,
        1.3,
    );
    many(plan, report).await
}

/// A hundred values from a cluster, at once and one after another.
async fn many(plan: &Plan, report: &mut Report) -> Result<(), BoxError> {
    let cluster = RedisCluster::start().await;
    let url = cluster.urls()[0].replace("redis://", "redis-cluster://");
    let ids: Vec<_> = (0..100).map(|n| format!("account-{n}")).collect();
    let (cache, _redis) = ours(&url, &ids).await?;
    let mut rounds = plan.compare();
    while !rounds.are_enough() {
        let at_once = |count: u32| {
            let (cache, ids) = (cache.clone(), ids.clone());
            async move {
                let ids: Vec<_> = ids.iter().map(String::as_str).collect();
                for _ in 0..count {
                    let found = cache.get_many(&ids).await;
                    if found.iter().any(Option::is_none) {
                        return Err("a miss".into());
                    }
                }
                Ok::<_, BoxError>(())
            }
        };
        let singly = |count: u32| {
            let (cache, ids) = (cache.clone(), ids.clone());
            async move {
                for _ in 0..count {
                    for id in &ids {
                        cache.get(id).await.ok_or("a miss")?;
                    }
                }
                Ok::<_, BoxError>(())
            }
        };
        rounds.round(at_once, singly).await?;
    }
    let name = "cache.get_many_vs_gets";
    let speed = rounds.speed();
    report.note(&format!("{name}: {speed}"));
    bar(report, name, speed.value, Op::AtLeast, 8.0);
    Ok(())
}

/// A cache that keeps nothing near, and what it has in Redis.
async fn ours(url: &str, ids: &[String]) -> Result<(Cache<String>, Redis), BoxError> {
    let redis = Redis::open(RedisConfig::new(url)?);
    if !redis.wait_ready(READY).await {
        return Err("redis is not ready".into());
    }
    let hub = Hub::builder()
        .remote(RedisRemote::new(redis.clone()))
        .build();
    // Listening begins with what counts as a gap, and what was being loaded then is
    // not taken from L2 for a while.
    while hub.stats().gaps == 0 {
        sleep(Duration::from_millis(5)).await;
    }
    let cache = hub.cache(CacheSpec::new("name", 1).l1_ttl(Duration::ZERO));
    for id in ids {
        let load = || async { Ok::<_, Infallible>(Some(value())) };
        cache.get_or_load(id, load).await?;
    }
    Ok((cache, redis))
}

async fn bare(url: &str, ids: &[String]) -> Result<Client, BoxError> {
    let client = Builder::from_config(Config::from_url(url)?).build()?;
    client.init().await?;
    for id in ids {
        set(&client, id, serde_json::to_vec(&value())?.into()).await?;
    }
    Ok(client)
}

async fn get(client: &Client, id: &str) -> Result<(), BoxError> {
    // By its name, as the driver writes what it has no name for at once.
    let encoded: bytes::Bytes = client.get(id).await?;
    serde_json::from_slice::<String>(&encoded)?;
    Ok(())
}

async fn set(client: &Client, id: &str, value: bytes::Bytes) -> Result<(), BoxError> {
    let arguments: Vec<Value> = vec![id.into(), value.into(), "PX".into(), 3_600_000.into()];
    client.custom::<(), _>(word("SET"), arguments).await?;
    Ok(())
}

fn word(name: &'static str) -> CustomCommand {
    CustomCommand::new_static(name, ClusterHash::FirstKey, false)
}

/// `count` calls, by many tasks at once.
async fn spread<F, A>(count: u32, call: F) -> Result<(), BoxError>
where
    F: Fn(usize) -> A + Clone + Send + 'static,
    A: Future<Output = Result<(), BoxError>> + Send,
{
    let mut running = JoinSet::new();
    for task in 0..TASKS.min(count) {
        let call = call.clone();
        running.spawn(async move {
            for n in (task..count).step_by(TASKS as usize) {
                call(n as usize).await?;
            }
            Ok::<_, BoxError>(())
        });
    }
    while let Some(ended) = running.join_next().await {
        ended??;
    }
    Ok(())
}

/// The times of so many calls, one after another, the shortest first.
async fn timed(
    count: u32,
    call: impl AsyncFn(usize) -> Result<(), BoxError>,
) -> Result<Vec<Duration>, BoxError> {
    let mut times = Vec::with_capacity(count as usize);
    for n in 0..count {
        let start = Instant::now();
        call(n as usize).await?;
        times.push(start.elapsed());
    }
    times.sort_unstable();
    Ok(times)
}
