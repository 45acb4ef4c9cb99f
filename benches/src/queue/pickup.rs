//! How soon a job starts: from the moment that its transaction is told to commit, so
//! that the disk is in it, on a worker of the same process.
//!
//! Once where nothing else happens, and once at half of the rate that this machine
//! can take, transaction by transaction. The bars are held against the slower one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use maxscale_core::BoxError;
use maxscale_measure::{Bar, Op, Plan, Report};
use maxscale_queue::{EnqueueOptions, JobRequest, Outcome, Worker};
use maxscale_tests::PostgresServer;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::ours::{LIMIT, Noop, Ours};

const WRITERS: u32 = 8;
const CONCURRENCY: usize = 64;

/// Long enough for all that one job sets going to be over.
const QUIET: Duration = Duration::from_millis(20);

/// When each job was committed, and the waits until it ran.
struct Waits {
    begun: Instant,
    committed: Vec<AtomicU64>,
    waited: mpsc::UnboundedSender<Duration>,
}

pub(super) async fn run(plan: &Plan, report: &mut Report) -> Result<(), BoxError> {
    let server = PostgresServer::start().await;
    let jobs = plan.pick(500, 5);
    let idle = measured(&server, jobs, async |side: Arc<Ours>, waits: Arc<Waits>| {
        for number in 0..jobs {
            sleep(QUIET).await;
            waits.enqueue(&side, number).await?;
        }
        Ok(())
    });
    let (idle, _) = idle.await?;
    let jobs = plan.pick(5_000, 50);
    let flat_out = measured(&server, jobs, async move |side, waits| {
        by_writers(side, waits, jobs, Duration::ZERO).await
    });
    let (_, spent) = flat_out.await?;
    let each = 2 * WRITERS * spent / jobs;
    let half = measured(&server, jobs, async move |side, waits| {
        by_writers(side, waits, jobs, each).await
    });
    let (half, spent) = half.await?;
    let rate = f64::from(jobs) / spent.as_secs_f64();
    report.note(&format!(
        "queue.pickup: idle p50 {:.1} ms, p99 {:.1} ms; at {rate:.0} jobs/s p50 {:.1} ms, p99 {:.1} ms",
        at(&idle, 50),
        at(&idle, 99),
        at(&half, 50),
        at(&half, 99),
    ));
    for (name, percent, target) in [
        ("queue.pickup_p50_ms", 50, 5.0),
        ("queue.pickup_p99_ms", 99, 25.0),
    ] {
        report.bar(Bar {
            name,
            measured: at(&idle, percent).max(at(&half, percent)),
            op: Op::AtMost,
            target,
        });
    }
    Ok(())
}

/// What `enqueue` waited for each of so many jobs, and how long it all took.
async fn measured(
    server: &PostgresServer,
    jobs: u32,
    enqueue: impl AsyncFnOnce(Arc<Ours>, Arc<Waits>) -> Result<(), BoxError>,
) -> Result<(Vec<Duration>, Duration), BoxError> {
    let side = Arc::new(Ours::open(server, None).await?);
    let (waited, mut waits) = mpsc::unbounded_channel();
    let shared = Arc::new(Waits {
        begun: Instant::now(),
        committed: (0..jobs).map(|_| AtomicU64::new(0)).collect(),
        waited,
    });
    let of_job = shared.clone();
    let worker = Worker::builder(side.queue.clone())
        .concurrency(CONCURRENCY)
        .register::<Noop, _>(move |request: JobRequest<Noop>| {
            of_job.started(request.job().number);
            std::future::ready(Outcome::Done)
        })
        .start()?;
    let start = Instant::now();
    enqueue(side, shared).await?;
    let mut all = Vec::new();
    while all.len() < jobs as usize {
        all.extend(timeout(LIMIT, waits.recv()).await?);
    }
    let spent = start.elapsed();
    worker.shutdown(LIMIT).await;
    all.sort_unstable();
    Ok((all, spent))
}

async fn by_writers(
    side: Arc<Ours>,
    waits: Arc<Waits>,
    jobs: u32,
    each: Duration,
) -> Result<(), BoxError> {
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let (side, waits) = (side.clone(), waits.clone());
        writers.spawn(async move {
            let mut ticks = interval(each.max(Duration::from_nanos(1)));
            ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
            for number in (writer..jobs).step_by(WRITERS as usize) {
                ticks.tick().await;
                waits.enqueue(&side, number).await?;
            }
            Ok::<_, BoxError>(())
        });
    }
    while let Some(ended) = writers.join_next().await {
        ended??;
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds for people")]
fn at(sorted: &[Duration], percent: usize) -> f64 {
    let place = (sorted.len() * percent).div_ceil(100).max(1) - 1;
    sorted[place].as_micros() as f64 / 1e3
}

// === impl Waits ===

impl Waits {
    async fn enqueue(&self, side: &Ours, number: u32) -> Result<(), BoxError> {
        let user = side.ids.draw_anywhere(side.router.shards());
        let mut tx = side.router.shard(user)?.begin().await?;
        let job = Noop::new(number);
        let options = EnqueueOptions::default();
        side.queue.enqueue_in(&mut tx, &job, options).await?;
        let now = u64::try_from(self.begun.elapsed().as_micros())?;
        self.committed[number as usize].store(now, Ordering::Release);
        tx.commit().await?;
        Ok(())
    }

    fn started(&self, number: u32) {
        let committed = self.committed[number as usize].load(Ordering::Acquire);
        let waited = self.begun.elapsed() - Duration::from_micros(committed);
        // Nobody listens any more once all have started.
        let _ = self.waited.send(waited);
    }
}
