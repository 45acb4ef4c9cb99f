use std::sync::Arc;
use std::time::Duration;

use maxscale_core::clock::Clock;
use maxscale_core::control::Backoff;
use maxscale_core::fact::VirtualShard;
use maxscale_core::id::IdGenerator;
use maxscale_queue::{
    EnqueueOptions, Job, JobId, JobRequest, JobState, JobStatus, MIGRATIONS, Queue, QueueError,
    Worker, WorkerBuilder,
};
use maxscale_shard::fleet::NodeSpec;
use maxscale_shard::{Fleet, FleetConfig, Migration, MigrationSet, Row, Statement, Tx, sql};
use maxscale_tests::{Database, PostgresServer, eventually};
use serde::{Deserialize, Serialize};

/// How long what has to happen may take on a machine that is busy with others.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);
pub(crate) const SHARD: VirtualShard = VirtualShard::new(5);

/// Effects have no unique index: a doubled one shows.
const EFFECTS: MigrationSet = MigrationSet {
    owner: "test",
    steps: &[Migration {
        version: 1,
        name: "effects",
        postgres: "CREATE TABLE effect (shard_id integer NOT NULL, job_id uuid NOT NULL)",
        sqlite: "CREATE TABLE effect (shard_id INTEGER NOT NULL, job_id BLOB NOT NULL)",
    }],
};

/// A queue over two nodes of one engine.
pub(crate) struct Stage {
    pub(crate) fleet: Fleet,
    pub(crate) queue: Queue,
    pub(crate) ids: Arc<IdGenerator>,
    pub(crate) urls: Vec<String>,
    _folder: tempfile::TempDir,
    _databases: Vec<Database>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Note {
    pub(crate) text: String,
}

impl Job for Note {
    const KIND: &'static str = "test.note";
    const MAX_ATTEMPTS: u32 = 3;
}

/// Makes each function a test on each engine.
macro_rules! on_both {
    ($($(#[doc = $doc:literal])* async fn $name:ident($stage:ident: &Stage) $body:block)+) => {
        $(
            $(#[doc = $doc])*
            async fn $name($stage: &Stage) $body
        )+

        mod sqlite {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $name() {
                    let stage = super::Stage::sqlite().await;
                    crate::stage::ends(super::$name(&stage)).await;
                }
            )+
        }

        mod postgres {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $name() {
                    let stage = super::Stage::postgres().await;
                    crate::stage::ends(super::$name(&stage)).await;
                }
            )+
        }
    };
}

pub(crate) use on_both;

/// Fails a test that waits for what never comes, with its name, where all others would wait too.
pub(crate) async fn ends(test: impl Future<Output = ()>) {
    let ended = tokio::time::timeout(3 * LIMIT, test).await;
    ended.expect("the test waits for something that never comes");
}

pub(crate) async fn open(urls: &[String]) -> Fleet {
    let nodes = (urls.iter().enumerate())
        .map(|(at, url)| NodeSpec::parse(url, at + 1).unwrap())
        .collect();
    let config = FleetConfig::new(nodes)
        .migrations(MIGRATIONS)
        .migrations(EFFECTS);
    Fleet::open(config).await.unwrap()
}

/// The queue on databases that are there already, by connections of its own.
pub(crate) async fn open_queue(urls: &[String]) -> (Fleet, Queue) {
    let (fleet, queue, _) = open_all(urls).await;
    (fleet, queue)
}

async fn open_all(urls: &[String]) -> (Fleet, Queue, Arc<IdGenerator>) {
    let fleet = open(urls).await;
    let router = fleet.router().clone();
    let ids = Arc::new(IdGenerator::new(Clock::system(), router.keyspace()));
    (fleet, Queue::new(router, ids.clone()), ids)
}

// === impl Stage ===

impl Stage {
    pub(crate) async fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let urls =
            ["a.db", "b.db"].map(|name| format!("sqlite:{}", folder.path().join(name).display()));
        Self::open(&urls, folder, Vec::new()).await
    }

    pub(crate) async fn postgres() -> Self {
        let server = PostgresServer::shared().await;
        let databases = vec![server.database().await, server.database().await];
        let urls: Vec<_> = databases.iter().map(Database::url).collect();
        Self::open(&urls, tempfile::tempdir().unwrap(), databases).await
    }

    pub(crate) async fn open(
        urls: &[String],
        folder: tempfile::TempDir,
        databases: Vec<Database>,
    ) -> Self {
        let (fleet, queue, ids) = open_all(urls).await;
        Self {
            queue,
            ids,
            fleet,
            urls: urls.to_vec(),
            _folder: folder,
            _databases: databases,
        }
    }

    /// A worker that retries soon.
    pub(crate) fn worker(&self) -> WorkerBuilder {
        let soon = Duration::from_millis(10);
        Worker::builder(self.queue.clone()).backoff(Backoff::new(soon, soon))
    }

    pub(crate) async fn begin(&self, shard: VirtualShard) -> Tx {
        let shard = self.fleet.router().virtual_shard(shard).unwrap();
        shard.begin().await.unwrap()
    }

    pub(crate) async fn enqueue<J: Job>(&self, job: &J) -> JobId {
        self.enqueue_on(SHARD, job, EnqueueOptions::default()).await
    }

    pub(crate) async fn enqueue_on<J: Job>(
        &self,
        shard: VirtualShard,
        job: &J,
        options: EnqueueOptions,
    ) -> JobId {
        let mut tx = self.begin(shard).await;
        let enqueued = self.queue.enqueue_in(&mut tx, job, options).await.unwrap();
        tx.commit().await.unwrap();
        enqueued.id()
    }

    pub(crate) async fn status(&self, id: JobId) -> JobStatus {
        self.queue.status(id).await.unwrap().unwrap()
    }

    /// Waits for the job to be in `state`.
    #[track_caller]
    pub(crate) fn reaches(&self, id: JobId, state: JobState) -> impl Future<Output = JobStatus> {
        eventually(LIMIT, async move || {
            let status = self.status(id).await;
            if status.state == state {
                Ok(status)
            } else {
                Err(status)
            }
        })
    }

    /// Changes the job's row behind the queue's back.
    pub(crate) async fn tamper(&self, id: JobId, statement: Statement) {
        let shard = self.fleet.router().shard(id.as_id()).unwrap();
        let touched = shard.execute(statement.bind(id)).await.unwrap();
        assert_eq!(touched, 1);
    }

    pub(crate) async fn rows(&self, statement: Statement) -> Vec<Row> {
        let mut rows = Vec::new();
        for node in self.fleet.router().nodes().iter() {
            rows.extend(node.database().fetch_all(statement.clone()).await.unwrap());
        }
        rows
    }

    /// How many effects there are.
    pub(crate) async fn effects(&self) -> usize {
        self.rows(sql("SELECT job_id FROM effect")).await.len()
    }

    /// Completes the job together with its effect.
    pub(crate) async fn effect<J>(&self, request: &JobRequest<J>) -> Result<(), QueueError> {
        effect(self.fleet.router(), request).await
    }
}

/// Completes the job together with its effect.
pub(crate) async fn effect<J>(
    router: &maxscale_shard::Router,
    request: &JobRequest<J>,
) -> Result<(), QueueError> {
    let mut tx = router.virtual_shard(request.shard())?.begin().await?;
    insert_effect(&mut tx, request).await?;
    request.complete_in(&mut tx).await?;
    tx.commit().await?;
    Ok(())
}

pub(crate) async fn insert_effect<J>(
    tx: &mut Tx,
    request: &JobRequest<J>,
) -> Result<(), QueueError> {
    let insert = sql("INSERT INTO effect (shard_id, job_id) VALUES ($1, $2)");
    tx.execute(insert.bind(request.shard()).bind(request.id()))
        .await?;
    Ok(())
}

pub(crate) fn note(text: &str) -> Note {
    Note { text: text.into() }
}
