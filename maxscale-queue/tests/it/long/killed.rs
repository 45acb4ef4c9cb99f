//! Workers are processes, and one of them is killed again and again.

use std::sync::Arc;
use std::time::Duration;

use maxscale_core::clock::Clock;
use maxscale_core::id::IdGenerator;
use maxscale_queue::{EnqueueOptions, JobRequest, Outcome, Queue, Worker};
use maxscale_shard::sql;
use maxscale_tests::{Database, PostgresServer, Process, eventually};
use tokio::time::sleep;
use uuid::Uuid;

use crate::stage::{Note, Stage, effect, note, open};

const PROCESSES: usize = 4;
const CONCURRENCY: usize = 16;
const URLS: &str = "MAXSCALE_TEST_QUEUE_URLS";
const LEASE_MS: &str = "MAXSCALE_TEST_QUEUE_LEASE_MS";

/// What a test told the program that it started.
#[expect(clippy::disallowed_methods, reason = "how a test tells its program")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// One of the processes; run by the tests below and by nobody else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a part of another test"]
async fn labourer() {
    let (Some(urls), Some(lease)) = (variable(URLS), variable(LEASE_MS)) else {
        return;
    };
    let urls: Vec<String> = urls.split(',').map(str::to_owned).collect();
    let fleet = open(&urls).await;
    let router = fleet.router().clone();
    let ids = Arc::new(IdGenerator::new(Clock::system(), router.keyspace()));
    let run = move |request: JobRequest<Note>| {
        let router = router.clone();
        async move {
            match effect(&router, &request).await {
                Ok(()) => Outcome::Done,
                Err(error) => Outcome::Retry(error.into()),
            }
        }
    };
    let queue = Queue::new(fleet.router().clone(), ids);
    let _worker = Worker::builder(queue)
        .concurrency(CONCURRENCY)
        .lease(Duration::from_millis(lease.parse().unwrap()))
        .register(run)
        .start()
        .unwrap();
    std::future::pending().await
}

fn start(urls: &str, lease: Duration) -> Process {
    Process::builder(std::env::current_exe().unwrap())
        .args([
            "long::killed::labourer",
            "--exact",
            "--ignored",
            "--nocapture",
        ])
        .env(URLS, urls)
        .env(LEASE_MS, lease.as_millis().to_string())
        .start()
}

async fn number(stage: &Stage, text: &'static str) -> i64 {
    let rows = stage.rows(sql(text)).await;
    rows.iter()
        .map(|row| row.get::<i64>("number").unwrap())
        .sum()
}

/// So many jobs with an effect each, by four processes of which one dies so often.
#[expect(clippy::print_stdout, reason = "what it measures is read by people")]
async fn kill_often(jobs: u32, kills: u32, every: Duration, lease: Duration, limit: Duration) {
    let server = PostgresServer::shared().await;
    let databases = vec![server.database().await, server.database().await];
    let urls: Vec<String> = databases.iter().map(Database::url).collect();
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::open(&urls, folder, databases).await;
    let job = note("an effect");
    let keyed: Vec<_> = (0..jobs)
        .map(|_| stage.ids.draw_anywhere(stage.fleet.router().shards()))
        .collect();
    let keyed = keyed.into_iter().map(|key| (key, &job));
    let options = EnqueueOptions::default();
    stage.queue.enqueue_many(keyed, options).await.unwrap();

    let urls = urls.join(",");
    let mut running: Vec<Process> = (0..PROCESSES).map(|_| start(&urls, lease)).collect();
    for _ in 0..kills {
        sleep(every).await;
        let at = usize::from(Uuid::new_v4().as_bytes()[0]) % PROCESSES;
        running[at].kill();
        running[at] = start(&urls, lease);
    }
    let left = "SELECT count(*) AS number FROM ms_job WHERE state IN ('ready', 'running')";
    eventually(limit, async || match number(&stage, left).await {
        0 => Ok(()),
        left => Err(format!("{left} jobs are left")),
    })
    .await;

    let done = "SELECT count(*) AS number FROM ms_job WHERE state = 'done'";
    let effects = "SELECT count(*) AS number FROM effect";
    let distinct = "SELECT count(DISTINCT job_id) AS number FROM effect";
    let crashes = "SELECT coalesce(sum(crashes), 0)::bigint AS number FROM ms_job";
    let (done, effects) = (number(&stage, done).await, number(&stage, effects).await);
    let (distinct, crashes) = (
        number(&stage, distinct).await,
        number(&stage, crashes).await,
    );
    println!(
        "{jobs} jobs, {kills} kills: {done} done, {} effects doubled, {} lost; \
         {crashes} executions more than jobs",
        effects - distinct,
        i64::from(jobs) - distinct,
    );
    assert_eq!(
        (done, effects, distinct),
        (jobs.into(), jobs.into(), jobs.into())
    );
    let most = i64::from(kills) * i64::try_from(CONCURRENCY).unwrap();
    assert!(crashes <= most, "{crashes} of at most {most}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_effect_is_lost_or_doubled_when_workers_are_killed() {
    let (pause, lease) = (Duration::from_millis(700), Duration::from_secs(4));
    kill_often(2_000, 3, pause, lease, Duration::from_secs(60)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes; CONTRIBUTING.md has the command"]
async fn no_effect_of_two_hundred_thousand_is_lost_or_doubled_in_a_minute_of_kills() {
    let (pause, lease) = (Duration::from_secs(1), Duration::from_secs(10));
    kill_often(200_000, 60, pause, lease, Duration::from_secs(900)).await;
}
