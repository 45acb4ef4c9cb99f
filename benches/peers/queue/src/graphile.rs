//! graphile_worker with its local queue, as its own benchmark sets it.

use std::sync::Arc;
use std::time::Duration;

use graphile_worker::{
    IntoTaskHandlerResult, JobSpec, LocalQueueConfig, RawJobSpec, TaskHandler, WorkerContext,
    WorkerOptions, WorkerUtils,
};
use maxscale_core::BoxError;
use maxscale_tests::{Database, PostgresServer};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::ours::{LIMIT, Noop};
use super::{CONCURRENCY, CONNECTIONS, Side};

const SCHEMA: &str = "graphile_worker";

/// As their benchmark has it, and their page on throughput.
const POLL: Duration = Duration::from_millis(5);
const SETTLE: Duration = Duration::from_millis(5);
/// How many jobs its local queue takes ahead.
const LOCAL: usize = 2_000;

#[derive(Clone, Debug)]
struct Ended(Arc<Semaphore>);

impl TaskHandler for Noop {
    const IDENTIFIER: &'static str = "noop";

    async fn run(self, context: WorkerContext) -> impl IntoTaskHandlerResult {
        if let Some(Ended(ended)) = context.get_ext::<Ended>() {
            ended.add_permits(1);
        }
        Ok::<(), String>(())
    }
}

pub(super) struct Graphile {
    pool: PgPool,
    utils: WorkerUtils,
    _database: Database,
}

// === impl Graphile ===

impl Side for Graphile {
    async fn open(server: &PostgresServer) -> Result<Self, BoxError> {
        let database = server.database().await;
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS)
            .connect(&database.url())
            .await?;
        let utils = WorkerUtils::new(pool.clone(), SCHEMA);
        utils.migrate().await?;
        Ok(Self {
            pool,
            utils,
            _database: database,
        })
    }

    async fn fill(&self, count: u32) -> Result<Duration, BoxError> {
        let jobs = Noop::many(count);
        let start = Instant::now();
        let specs = jobs.iter().map(|job| {
            Ok(RawJobSpec {
                identifier: Noop::IDENTIFIER.to_owned(),
                payload: serde_json::to_value(job)?,
                spec: JobSpec::default(),
            })
        });
        let specs: Vec<_> = specs.collect::<Result<_, BoxError>>()?;
        self.utils.add_raw_jobs(&specs).await?;
        Ok(start.elapsed())
    }

    async fn drain(self, count: u32) -> Result<Duration, BoxError> {
        let ended = Arc::new(Semaphore::new(0));
        let start = Instant::now();
        let worker = WorkerOptions::default()
            .pg_pool(self.pool.clone())
            .schema(SCHEMA)
            .concurrency(CONCURRENCY)
            .poll_interval(POLL)
            .complete_job_batch_delay(SETTLE)
            .local_queue(LocalQueueConfig::default().with_size(LOCAL))
            .add_extension(Ended(ended.clone()))
            .define_job::<Noop>()
            .init()
            .await?;
        let worker = Arc::new(worker);
        let runs = worker.clone();
        let runs = tokio::spawn(async move { runs.run().await });
        let _all = timeout(LIMIT, ended.acquire_many(count)).await??;
        // It writes the last ends.
        worker.request_shutdown();
        runs.await??;
        let spent = start.elapsed();
        let left = sqlx::query_scalar("SELECT count(*) FROM graphile_worker._private_jobs");
        let left: i64 = left.fetch_one(&self.pool).await?;
        self.pool.close().await;
        if left == 0 {
            Ok(spent)
        } else {
            Err(format!("{left} of graphile_worker's jobs are left").into())
        }
    }
}
