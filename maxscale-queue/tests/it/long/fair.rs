//! One tenant sends nine tenths of the jobs.

use std::collections::HashMap;
use std::fs;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use maxscale_core::fact::VirtualShard;
use maxscale_queue::{EnqueueOptions, JobRequest, Outcome};
use maxscale_shard::sql;
use maxscale_tests::{Database, PostgresServer};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use crate::stage::{LIMIT, Note, Stage, note};

const DATABASES: usize = 4;
const OTHERS: u32 = 20;
/// The first of them whose names, and the loud one's, are in slots of their own: who
/// shares a slot shares its turns.
const FIRST: u32 = 4;

fn others() -> impl Iterator<Item = String> {
    (FIRST..FIRST + OTHERS).map(|other| format!("firm-{other}"))
}

async fn stage() -> Stage {
    let server = PostgresServer::shared().await;
    let mut databases = Vec::new();
    for _ in 0..DATABASES {
        databases.push(server.database().await);
    }
    let urls: Vec<String> = databases.iter().map(Database::url).collect();
    Stage::open(&urls, tempfile::tempdir().unwrap(), databases).await
}

/// Jobs of one tenant, all over the virtual shards, as many on each node.
async fn enqueue(stage: &Stage, tenant: &str, jobs: u32) {
    let job = note(tenant);
    let shards = stage.fleet.router().shards();
    let keys: Vec<_> = (0..jobs)
        .map(|at| stage.ids.draw(VirtualShard::new(at * shards / jobs)))
        .collect();
    let keyed = keys.into_iter().map(|key| (key, &job));
    let options = EnqueueOptions::default().tenant(tenant);
    stage.queue.enqueue_many(keyed, options).await.unwrap();
}

/// [Jain's index](https://arxiv.org/abs/cs/9809099): 1 where all have the same.
fn jain(shares: &[f64]) -> f64 {
    let sum: f64 = shares.iter().sum();
    let squares: f64 = shares.iter().map(|share| share * share).sum();
    sum * sum / (f64::from(u32::try_from(shares.len()).unwrap()) * squares)
}

/// How many jobs of each tenant ran on one node.
type Counts = HashMap<String, u32>;

/// How many of them were of others than the loud one.
fn of_others(counts: &Counts) -> u32 {
    counts.values().sum::<u32>() - counts.get("loud").unwrap_or(&0)
}

/// How evenly the others were served when on each node half of their jobs had run, and
/// how much of the loud one's had: one node may be slower than another.
#[expect(clippy::print_stdout, reason = "what it measures is read by people")]
async fn served(each: u32, nap: Duration) -> (f64, f64) {
    let stage = stage().await;
    let loud = 9 * OTHERS * each;
    enqueue(&stage, "loud", loud).await;
    for other in others() {
        enqueue(&stage, &other, each).await;
    }
    let counts: Arc<Mutex<HashMap<String, Counts>>> = Arc::default();
    let half = Arc::new(Notify::new());
    let (counted, reached) = (counts.clone(), half.clone());
    let router = stage.fleet.router().clone();
    let enough = OTHERS * each / 2 / u32::try_from(DATABASES).unwrap();
    let run = move |request: JobRequest<Note>| {
        let shard = router.virtual_shard(request.shard()).unwrap();
        let mut nodes = counted.lock().unwrap();
        let here = nodes.entry(shard.node().id().to_string()).or_default();
        if of_others(here) < enough {
            *here.entry(request.job().text.clone()).or_default() += 1;
        }
        if nodes.len() == DATABASES && nodes.values().all(|it| of_others(it) >= enough) {
            reached.notify_one();
        }
        async move {
            sleep(nap).await;
            Outcome::Done
        }
    };
    let worker = stage
        .worker()
        .concurrency(32)
        .register(run)
        .start()
        .unwrap();
    timeout(6 * LIMIT, half.notified()).await.unwrap();
    let connections = stage.rows(sql(
        "SELECT count(*) AS number FROM pg_stat_activity WHERE datname = current_database()",
    ));
    let connections: Vec<i64> = (connections.await.iter())
        .map(|row| row.get("number").unwrap())
        .collect();
    worker.shutdown(LIMIT).await;
    let nodes = counts.lock().unwrap();
    let ran = |tenant: &str| {
        let ran = nodes.values().filter_map(|counts| counts.get(tenant));
        f64::from(ran.sum::<u32>())
    };
    let others: Vec<f64> = others().map(|other| ran(&other)).collect();
    let of_loud = ran("loud") / f64::from(loud);
    let index = jain(&others);
    println!(
        "{OTHERS} tenants beside one with 90 % of {} jobs: Jain index {index:.3}, {:.1} % of the loud \
         one's had run; connections per database: {connections:?}",
        loud + OTHERS * each,
        100.0 * of_loud,
    );
    (index, of_loud)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn loud_tenant_does_not_delay_the_others() {
    let (index, of_loud) = served(20, Duration::ZERO).await;
    assert!(index >= 0.9 && of_loud < 0.4, "{index}, {of_loud}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a minute; CONTRIBUTING.md has the command"]
async fn twenty_tenants_beside_a_loud_one_are_served_evenly() {
    let (index, _) = served(400, Duration::from_millis(5)).await;
    assert!(index >= 0.95, "{index}");
}

/// User and system time of this process, in hundredths of a second.
fn ticks() -> u64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let after_name = stat.rsplit_once(')').unwrap().1;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "what else this process does is counted too; CONTRIBUTING.md has the command"]
async fn idle_worker_of_four_nodes_takes_two_percent_of_a_core() {
    let stage = stage().await;
    let run = async |_: JobRequest<Note>| Outcome::Done;
    let _worker = stage.worker().register(run).start().unwrap();
    // Until its polls are far apart.
    sleep(Duration::from_secs(10)).await;
    let before = ticks();
    sleep(Duration::from_secs(20)).await;
    let spent = ticks() - before;
    println!(
        "an idle worker of {DATABASES} nodes: {} ms of CPU in 20 s",
        10 * spent
    );
    assert!(spent <= 40, "{spent}");
}
