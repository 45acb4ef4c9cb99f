//! Jobs from enqueue to their end, on a PostgreSQL that waits for its disk.
//!
//! A figure to follow: its peers are not measured beside it yet, so its bars are
//! missing.

use std::sync::Arc;
use std::time::Duration;

use maxscale_core::BoxError;
use maxscale_core::clock::Clock;
use maxscale_core::id::IdGenerator;
use maxscale_measure::{Plan, Report};
use maxscale_queue::{EnqueueOptions, Job, JobId, JobState, MIGRATIONS, Outcome, Queue, Worker};
use maxscale_shard::fleet::NodeSpec;
use maxscale_shard::{Fleet, FleetConfig, Router};
use maxscale_tests::PostgresServer;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

const WRITERS: u32 = 8;
const CONCURRENCY: usize = 64;
const LIMIT: Duration = Duration::from_secs(120);

/// What this figure will be held to, once each peer has a workspace of its own.
const BARS_AGAINST_PEERS: [&str; 4] = [
    "queue.noop_vs_graphile_worker_rs",
    "queue.noop_vs_graphile_worker_js",
    "queue.noop_vs_apalis",
    "queue.noop_vs_bullmq",
];

/// A job that does nothing.
#[derive(Serialize, Deserialize)]
struct Noop;

impl Job for Noop {
    const KIND: &'static str = "bench.noop";
}

pub(crate) async fn run(plan: &Plan, report: &mut Report) -> Result<(), BoxError> {
    let server = PostgresServer::start().await;
    let database = server.database().await;
    let node = NodeSpec::parse(&database.url(), 1)?;
    let fleet = Fleet::open(FleetConfig::new(vec![node]).migrations(MIGRATIONS)).await?;
    let router = fleet.router().clone();
    let ids = Arc::new(IdGenerator::new(Clock::system(), router.keyspace()));
    let queue = Queue::new(router.clone(), ids.clone());
    let ended = Arc::new(Semaphore::new(0));
    let counted = ended.clone();
    let worker = Worker::builder(queue.clone())
        .concurrency(CONCURRENCY)
        .register::<Noop, _>(move |_| {
            counted.add_permits(1);
            std::future::ready(Outcome::Done)
        })
        .start()?;

    let each = plan.pick(500, 10);
    let start = Instant::now();
    let mut writers = JoinSet::new();
    for _ in 0..WRITERS {
        let (queue, router, ids) = (queue.clone(), router.clone(), ids.clone());
        writers.spawn(async move { enqueue(&queue, &router, &ids, each).await });
    }
    let mut jobs = Vec::new();
    while let Some(written) = writers.join_next().await {
        jobs.extend(written??);
    }
    let written = start.elapsed();
    let runs = timeout(LIMIT, ended.acquire_many(WRITERS * each)).await??;
    // The last settlements are written by the time that a shutdown is over.
    worker.shutdown(LIMIT).await;
    let spent = start.elapsed();
    drop(runs);

    for job in &jobs {
        let status = queue.status(*job).await?.ok_or("a job is lost")?;
        if status.state != JobState::Done {
            return Err(format!("job {job} is {:?} after its end", status.state).into());
        }
    }
    fleet.close().await;
    let count = f64::from(WRITERS * each);
    report.note(&format!(
        "queue: {:.0} jobs/s from enqueue to settlement, {:.0}/s enqueued meanwhile, \
         {WRITERS} writers, one transaction per job, {CONCURRENCY} at once",
        count / spent.as_secs_f64(),
        count / written.as_secs_f64(),
    ));
    for name in BARS_AGAINST_PEERS {
        report.missing(name);
    }
    Ok(())
}

async fn enqueue(
    queue: &Queue,
    router: &Router,
    ids: &IdGenerator,
    count: u32,
) -> Result<Vec<JobId>, BoxError> {
    let mut jobs = Vec::new();
    for _ in 0..count {
        let user = ids.draw_anywhere(router.shards());
        let mut tx = router.shard(user)?.begin().await?;
        let job = queue.enqueue_in(&mut tx, &Noop, EnqueueOptions::default());
        jobs.push(job.await?.id());
        tx.commit().await?;
    }
    Ok(jobs)
}
