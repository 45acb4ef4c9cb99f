//! Our queue on a database of its own: filled at once, then run empty.

use std::sync::Arc;
use std::time::Duration;

use maxscale_core::BoxError;
use maxscale_core::clock::Clock;
use maxscale_core::id::IdGenerator;
use maxscale_queue::{EnqueueOptions, Job, MIGRATIONS, Outcome, Queue, Worker};
use maxscale_shard::fleet::NodeSpec;
use maxscale_shard::{Fleet, FleetConfig, MigrationSet, Router, sql};
use maxscale_tests::{Database, PostgresServer};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

/// How many of ours run at once: as many as graphile_worker takes ahead of time.
const CONCURRENCY: usize = 2_000;
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

/// A job that does nothing, with as much to carry as jobs have.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Noop {
    pub(crate) number: u32,
    pub(crate) text: String,
}

impl Job for Noop {
    const KIND: &'static str = "bench.noop";
}

/// A queue, and the database that goes with it.
pub(crate) struct Ours {
    pub(crate) queue: Queue,
    pub(crate) router: Router,
    pub(crate) ids: Arc<IdGenerator>,
    fleet: Fleet,
    _database: Database,
}

// === impl Noop ===

impl Noop {
    pub(crate) fn new(number: u32) -> Self {
        let text = "x".repeat(80);
        Self { number, text }
    }

    pub(crate) fn many(count: u32) -> Vec<Self> {
        (0..count).map(Self::new).collect()
    }
}

// === impl Ours ===

impl Ours {
    pub(crate) async fn open(
        server: &PostgresServer,
        tables: Option<MigrationSet>,
    ) -> Result<Self, BoxError> {
        let database = server.database().await;
        let node = NodeSpec::parse(&database.url(), 1)?;
        let mut config = FleetConfig::new(vec![node]).migrations(MIGRATIONS);
        if let Some(tables) = tables {
            config = config.migrations(tables);
        }
        let fleet = Fleet::open(config).await?;
        let router = fleet.router().clone();
        let ids = Arc::new(IdGenerator::new(Clock::system(), router.keyspace()));
        Ok(Self {
            queue: Queue::new(router.clone(), ids.clone()),
            router,
            ids,
            fleet,
            _database: database,
        })
    }

    /// Enqueues so many jobs together, each for a user of its own; tells how long it took.
    pub(crate) async fn fill(&self, count: u32) -> Result<Duration, BoxError> {
        let jobs = Noop::many(count);
        let start = Instant::now();
        let keyed = jobs
            .iter()
            .map(|job| (self.ids.draw_anywhere(self.router.shards()), job));
        let options = EnqueueOptions::default();
        self.queue.enqueue_many(keyed, options).await?;
        Ok(start.elapsed())
    }

    /// Runs so many jobs; tells how long it took from the worker's start until the last
    /// end was in the database.
    pub(crate) async fn drain(self, count: u32) -> Result<Duration, BoxError> {
        let ended = Arc::new(Semaphore::new(0));
        let counted = ended.clone();
        let start = Instant::now();
        let worker = Worker::builder(self.queue.clone())
            .concurrency(CONCURRENCY)
            .register::<Noop, _>(move |_| {
                counted.add_permits(1);
                std::future::ready(Outcome::Done)
            })
            .start()?;
        let _runs = timeout(LIMIT, ended.acquire_many(count)).await??;
        // It writes the last ends.
        worker.shutdown(LIMIT).await;
        let spent = start.elapsed();
        let done = sql("SELECT count(*) AS done FROM ms_job WHERE state = 'done'");
        let mut ends = 0;
        for node in self.router.nodes().iter() {
            let row = node.database().fetch_optional(done.clone()).await?;
            ends += row.ok_or("a count without a row")?.get::<i64>("done")?;
        }
        self.fleet.close().await;
        if ends == i64::from(count) {
            Ok(spent)
        } else {
            Err(format!("{ends} of our {count} jobs are done").into())
        }
    }
}
