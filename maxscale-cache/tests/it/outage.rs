//! Redis cannot be reached, and comes back with the old values in it.
//!
//! Connections are cut on the way: a server that was stopped would carry out
//! what was sent to it meanwhile, and one that was killed would have another
//! lineage, so that nobody believed its old values.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use maxscale_cache::remote::RedisRemote;
use maxscale_cache::{Cache, Hub, HubBuilder, Invalidated};
use maxscale_core::redis::{Command, Redis, RedisConfig, RedisError};
use maxscale_tests::{Cut, Process, Proxy, RedisServer, eventually};
use tokio::runtime::Handle;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{Instant, sleep};

use crate::program::{self, connect, raise, variable, wait_for, wait_until_in_use};
use crate::source::{BOUND, LIMIT, LONG};

const STORE: &str = "MAXSCALE_TEST_STORE";
const TRUTH: &str = "MAXSCALE_TEST_TRUTH";
const FOLDER: &str = "MAXSCALE_TEST_FOLDER";

/// How long a program may wait for what the test does.
const WAIT: Duration = Duration::from_secs(120);

/// What is invalidated while Redis cannot be reached.
fn ids() -> impl Iterator<Item = String> {
    (0..50).map(|n| n.to_string())
}

async fn read(cache: &Cache<u64>, truth: &Redis, id: &str) -> u64 {
    let truth = truth.clone();
    let load = || async move {
        let value = truth.command(Command::new("GET").key("value")).await?;
        let text = value.into_bytes().unwrap_or_else(|| "0".into());
        Ok::<_, RedisError>(Some(std::str::from_utf8(&text).unwrap().parse().unwrap()))
    };
    *cache.get_or_load(id, load).await.unwrap().unwrap()
}

/// A hub that answers soon though its store is down.
fn hub_on(url: &str) -> HubBuilder {
    let redis = Redis::open(RedisConfig::new(url).unwrap());
    Hub::builder().remote(RedisRemote::new(redis))
}

/// Invalidates while Redis is down if the value was there before, else reads
/// until it is back and knows of everything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the program that other tests start"]
async fn program_that_restarts() {
    let Some(store) = variable(STORE) else { return };
    let truth = connect(&variable(TRUTH).unwrap()).await;
    let hub = hub_on(&store).journal(variable(FOLDER).unwrap()).unwrap();
    let hub = hub.build();
    let cache = hub.cache::<u64>(LONG);
    if hub.stats().pending == 0 {
        wait_until_in_use(&hub).await;
        for id in ids() {
            read(&cache, &truth, &id).await;
        }
        println!("ready");
        wait_for(&truth, "down", WAIT).await;
        for id in ids() {
            assert_eq!(cache.invalidate(&id).await, Invalidated::HereOnly);
        }
        println!("not confirmed");
        std::future::pending::<()>().await;
    }
    println!("restarted");
    eventually(WAIT, async || {
        for id in ids() {
            assert_eq!(read(&cache, &truth, &id).await, 1, "an old value of {id}");
        }
        hub.stats().pending == 0
    })
    .await;
    println!("confirmed");
}

/// Lets nothing through, and forgets what was on its way.
async fn break_off(proxy: &Proxy) {
    proxy.refuse().await;
    proxy.cut(Cut::Reset).await;
}

/// How many bytes of notes there are, without the heads of their files.
fn noted(folder: &Path) -> u64 {
    const HEAD: u64 = 12;
    let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    let files = entries.filter(|it| it.path().extension().is_some_and(|it| it == "journal"));
    files.map(|it| it.metadata().unwrap().len() - HEAD).sum()
}

async fn invalidations_outlive_the_process(outage: Duration) {
    let (server, truth) = (RedisServer::start().await, RedisServer::start().await);
    let proxy = Proxy::start(server.url()).await;
    let folder = tempfile::tempdir().unwrap();
    let notes = folder.path().join("journal");
    let start = |notes: &Path| -> Process {
        let variables = [
            (STORE, proxy.url()),
            (TRUTH, truth.url()),
            (FOLDER, notes.to_str().unwrap().to_owned()),
        ];
        program::start("outage::program_that_restarts", &variables)
    };
    let process = start(&notes);
    process.wait_for_line("ready", WAIT).await;
    let register = connect(&truth.url()).await;
    let elsewhere = program::patient(connect(&server.url()).await).build();
    wait_until_in_use(&elsewhere).await;
    let cache = elsewhere.cache::<u64>(LONG);
    for id in ids() {
        assert_eq!(read(&cache, &register, &id).await, 0);
    }

    break_off(&proxy).await;
    let set = Command::new("SET").key("value").arg(1);
    register.command(set).await.unwrap();
    raise(&register, "down").await;
    process.wait_for_line("not confirmed", WAIT).await;
    sleep(outage / 2).await;
    process.kill();
    assert!(noted(&notes) > 0);
    let process = start(&notes);
    process.wait_for_line("restarted", WAIT).await;
    sleep(outage / 2).await;
    proxy.heal().await;
    process.wait_for_line("confirmed", WAIT).await;
    // The time in which it has to be gone elsewhere, not one for things to settle.
    sleep(BOUND).await;
    for id in ids() {
        assert_eq!(
            read(&cache, &register, &id).await,
            1,
            "an old value of {id}"
        );
    }
    eventually(LIMIT, async || noted(&notes) == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_invalidation_is_lost_though_the_process_dies_while_redis_is_down() {
    invalidations_outlive_the_process(Duration::ZERO).await;
}

/// How many loads run, and ran at most.
#[derive(Debug, Default)]
struct Loads {
    now: AtomicUsize,
    most: AtomicUsize,
}

// === impl Loads ===

impl Loads {
    async fn load(self: Arc<Self>) -> Result<Option<u64>, RedisError> {
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        sleep(Duration::from_millis(5)).await;
        self.now.fetch_sub(1, Ordering::SeqCst);
        Ok(Some(1))
    }
}

/// The time below which 99 of 100 hits in L1 took, for so long. On a thread of its own,
/// which nothing but the cache makes wait.
async fn p99_of_hits(cache: &Cache<u64>, loads: &Arc<Loads>, span: Duration) -> Duration {
    let (cache, loads, runtime) = (cache.clone(), loads.clone(), Handle::current());
    let asks = move || runtime.block_on(times_of_hits(&cache, &loads, span));
    let times = spawn_blocking(asks).await.unwrap();
    let (hits, mut seen) = (times.iter().sum::<u64>(), 0);
    let p99 = times.iter().position(|count| {
        seen += count;
        seen * 100 >= hits * 99
    });
    Duration::from_nanos(u64::try_from(p99.unwrap()).unwrap())
}

/// How many hits took so many nanoseconds: there are hundreds of millions in a minute.
async fn times_of_hits(cache: &Cache<u64>, loads: &Arc<Loads>, span: Duration) -> Vec<u64> {
    let (end, mut hits) = (Instant::now() + span, 0);
    let mut times = vec![0; 1_000_000];
    let last = times.len() - 1;
    for n in (0..10).cycle() {
        let id = format!("hot-{n}");
        let load = loads.clone();
        let is_near = cache.peek(&id).is_some();
        let start = Instant::now();
        // Refused now and then, when too many loads wait.
        let _ = cache.get_or_load(&id, || load.load()).await;
        if is_near {
            let took = usize::try_from(start.elapsed().as_nanos()).unwrap();
            times[took.min(last)] += 1;
            hits += 1;
        }
        if start > end && hits >= 1_000 {
            break;
        }
    }
    times
}

/// The p99 of hits in L1 before an outage and in it, while others load more
/// than may be loaded at once.
async fn ride_out(outage: Duration) -> (Duration, Duration) {
    let server = RedisServer::start().await;
    let proxy = Proxy::start(server.url()).await;
    let hub = hub_on(&proxy.url()).build();
    let elsewhere = program::patient(connect(&server.url()).await).build();
    for hub in [&hub, &elsewhere] {
        wait_until_in_use(hub).await;
    }
    let (cache, other) = (hub.cache::<u64>(LONG), elsewhere.cache::<u64>(LONG));
    let loads = Arc::new(Loads::default());
    for id in ids() {
        let load = || async { Ok::<_, RedisError>(Some(0)) };
        // Each has it, though the first may not have had the time to share it.
        for cache in [&cache, &other] {
            assert_eq!(*cache.get_or_load(&id, load).await.unwrap().unwrap(), 0);
        }
    }
    let mut crowd = JoinSet::new();
    for task in 0..100 {
        let (cache, loads) = (cache.clone(), loads.clone());
        crowd.spawn(async move {
            for n in 0_u64.. {
                let load = loads.clone();
                let _ = cache
                    .get_or_load(&format!("{task}-{n}"), || load.load())
                    .await;
                sleep(Duration::from_millis(20)).await;
            }
        });
    }
    let before = p99_of_hits(&cache, &loads, outage.min(Duration::from_secs(20))).await;
    break_off(&proxy).await;
    for id in ids() {
        assert_eq!(cache.invalidate(&id).await, Invalidated::HereOnly);
    }
    let during = p99_of_hits(&cache, &loads, outage).await;
    proxy.heal().await;
    eventually(LIMIT, async || hub.stats().pending == 0).await;
    crowd.shutdown().await;
    sleep(BOUND).await;
    for id in ids() {
        assert_eq!(other.get(&id).await, None, "an old value of {id}");
    }
    let most = loads.most.load(Ordering::SeqCst);
    assert!(
        (1..=Hub::DEFAULT_LOAD_LIMIT.get()).contains(&most),
        "{most} loads"
    );
    (before, during)
}

#[tokio::test(flavor = "multi_thread")]
async fn outage_is_ridden_out_within_the_limit_of_loads() {
    println!("{:?}", ride_out(Duration::from_secs(2)).await);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "an outage of a minute; CONTRIBUTING.md has the command"]
async fn outage_of_a_minute_slows_no_hit() {
    let (before, during) = ride_out(Duration::from_secs(60)).await;
    println!("p99 of hits in L1: {before:?} before, {during:?} in the outage");
    assert!(during.as_secs_f64() <= 1.2 * before.as_secs_f64());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "an outage of a minute; CONTRIBUTING.md has the command"]
async fn no_invalidation_is_lost_in_an_outage_of_a_minute() {
    invalidations_outlive_the_process(Duration::from_secs(60)).await;
}
