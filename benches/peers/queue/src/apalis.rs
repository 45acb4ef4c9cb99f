//! apalis on its PostgreSQL storage, two hundred jobs at a time.

use std::sync::Arc;
use std::time::Duration;

use apalis::prelude::*;
use apalis_postgres::{Config, PgPool, PostgresStorage};
use maxscale_core::BoxError;
use maxscale_tests::{Database, PostgresServer};
use sqlx::postgres::PgPoolOptions;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::ours::{LIMIT, Noop};
use super::{CONCURRENCY, CONNECTIONS, Side};

const BATCH: usize = 200;

pub(super) struct Apalis {
    pool: PgPool,
    storage: PostgresStorage<Noop>,
    _database: Database,
}

// === impl Apalis ===

impl Side for Apalis {
    async fn open(server: &PostgresServer) -> Result<Self, BoxError> {
        let database = server.database().await;
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS)
            .connect(&database.url())
            .await?;
        PostgresStorage::setup(&pool).await?;
        let config = Config::default()
            .queue("bench")
            .batch_size(BATCH)
            .lock_tasks(false);
        Ok(Self {
            storage: PostgresStorage::new(&pool).with_config(config),
            pool,
            _database: database,
        })
    }

    async fn fill(&self, count: u32) -> Result<Duration, BoxError> {
        let jobs = Noop::many(count);
        let start = Instant::now();
        let mut storage = self.storage.clone();
        storage.push_bulk(jobs).await?;
        Ok(start.elapsed())
    }

    async fn drain(self, count: u32) -> Result<Duration, BoxError> {
        let ended = Arc::new(Semaphore::new(0));
        let counted = ended.clone();
        let noop = move |_: Noop| {
            counted.add_permits(1);
            std::future::ready(Ok::<(), BoxDynError>(()))
        };
        let start = Instant::now();
        let all = async move {
            timeout(LIMIT, ended.acquire_many(count)).await??.forget();
            Ok::<(), BoxError>(())
        };
        WorkerBuilder::new("noop")
            .backend(self.storage)
            .concurrency(CONCURRENCY)
            .build(noop)
            .run_until(async { all.await.map_err(std::io::Error::other) })
            .await?;
        let spent = start.elapsed();
        let done = sqlx::query_scalar("SELECT count(*) FROM apalis.jobs WHERE status = 'Done'");
        let done: i64 = done.fetch_one(&self.pool).await?;
        self.pool.close().await;
        if done == i64::from(count) {
            Ok(spent)
        } else {
            Err(format!("{done} of apalis' {count} jobs are done").into())
        }
    }
}
