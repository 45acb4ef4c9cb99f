//! Two processes that share an L2 and are set up in unlike ways.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use maxscale_cache::codec::Codec;
use maxscale_cache::{Cache, CacheSpec, Hub, HubBuilder, Invalidated, Stats};
use maxscale_core::redis::{Command, Redis};
use maxscale_tests::{RedisServer, eventually};
use tokio::time::Instant;

use crate::program::{connect, patient, wait_until_in_use};
use crate::source::LIMIT;

/// All reads are answered by L2 or a load.
pub(crate) const FAR: CacheSpec = CacheSpec::new("page", 1).l1_ttl(Duration::ZERO);

/// Of the value `k`.
pub(crate) const KEY: &str = "maxscale:page:k:1";

/// A process, and the cache that it uses.
pub(crate) type Member = (Hub, Cache<String>);

/// A long text that tells a number.
pub(crate) fn page(number: u64) -> String {
    format!("{number:>4000}")
}

pub(crate) fn number(page: &str) -> u64 {
    page.trim().parse().unwrap()
}

pub(crate) async fn load(cache: &Cache<String>, id: &str, value: String) -> Arc<String> {
    let load = || async { Ok::<_, Infallible>(Some(value)) };
    cache.get_or_load(id, load).await.unwrap().unwrap()
}

/// A process whose cache L2 is used for.
pub(crate) async fn member(
    server: &RedisServer,
    codec: impl Codec<String>,
    set_up: impl FnOnce(HubBuilder) -> HubBuilder,
) -> Member {
    let hub = set_up(patient(connect(&server.url()).await)).build();
    wait_until_in_use(&hub).await;
    let cache = hub.cache_with(FAR, codec);
    let mut n = 0;
    eventually(LIMIT, async || {
        n += 1;
        let id = format!("warm-{n}");
        load(&cache, &id, page(n)).await;
        cache.get(&id).await.is_some()
    })
    .await;
    (hub, cache)
}

pub(crate) async fn length(redis: &Redis, key: &str) -> i64 {
    let length = Command::new("STRLEN").key(key);
    redis.command(length).await.unwrap().as_int().unwrap()
}

/// Reads in both processes, while each in turn invalidates, until loads and drops
/// have met and `met` holds in both: none that begins after an invalidation was
/// confirmed returns an older value.
pub(crate) async fn never_older(processes: [Member; 2], met: impl Fn(&Stats) -> bool) {
    let truth = Arc::new(AtomicU64::new(0));
    let known = Arc::new(AtomicU64::new(0));
    let done = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..4)
        .map(|n| {
            let cache = processes[n % 2].1.clone();
            let (truth, known, done) = (truth.clone(), known.clone(), done.clone());
            tokio::spawn(async move {
                loop {
                    let at_least = known.load(Ordering::SeqCst);
                    let truth = truth.clone();
                    let load = move || async move {
                        let value = truth.load(Ordering::SeqCst);
                        // Time for a drop to come between reading and keeping.
                        tokio::task::yield_now().await;
                        Ok::<_, Infallible>(Some(page(value)))
                    };
                    let found = cache.get_or_load("raced", load).await.unwrap();
                    let found = number(&found.unwrap());
                    assert!(found >= at_least, "{found} after {at_least}");
                    if done.load(Ordering::SeqCst) {
                        return;
                    }
                }
            })
        })
        .collect();
    let stats = || processes.each_ref().map(|(hub, _)| hub.stats());
    let met = |stats: &Stats| stats.rejected_by_fence > 0 && stats.l2_hits > 0 && met(stats);
    let end = Instant::now() + LIMIT;
    for value in 1.. {
        if value > 500 && (stats().iter().all(met) || Instant::now() > end) {
            break;
        }
        truth.store(value, Ordering::SeqCst);
        let (_, cache) = &processes[usize::from(value % 2 == 0)];
        assert_eq!(cache.invalidate("raced").await, Invalidated::Everywhere);
        known.store(value, Ordering::SeqCst);
    }
    done.store(true, Ordering::SeqCst);
    for reader in readers {
        reader.await.unwrap();
    }
    for stats in stats() {
        assert!(met(&stats), "loads and drops did not meet: {stats:?}");
        assert_eq!((stats.unread_by_damage, stats.unread_by_value), (0, 0));
    }
}
