//! Claims beside millions of rows, and beside a transaction that lets nothing be
//! cleared away: small here, in full by the commands in CONTRIBUTING.md.
//!
//! What is timed is a claim as the worker makes it, on the storage alone. And what
//! claims and sweeps do where others hold or change the rows that they read.

mod again;
mod backlog;
mod full;
mod pinned;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use maxscale_core::clock::{Clock, Timestamp};
use maxscale_core::fact::VirtualShard;
use maxscale_core::id::IdGenerator;
use maxscale_shard::fleet::NodeSpec;
use maxscale_shard::{Database, DatabaseOptions, Fleet, FleetConfig};
use maxscale_tests::PostgresServer;
use tokio::sync::Mutex;
use tokio::time::Instant;
use uuid::Uuid;

use super::{Claimed, Common, Ended, Ending, NewJob, Wanted};
use super::{claim, enter, insert_many, promote, settle};
use crate::job::JobId;
use crate::seal::StoredArgs;
use crate::{MIGRATIONS, slot};

const QUEUE: &str = "default";
const KINDS: &str = r#"{"test.long":1}"#;

/// How many are claimed at once.
const BATCH: usize = 200;
const CHUNK: u32 = 1_000;

/// How long a test waits for what has to come.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is timed, and whose memory is counted, runs beside no other such test.
static ALONE: Mutex<()> = Mutex::const_new(());

/// A worker's life on one node, without the worker.
struct Bench {
    ids: IdGenerator,
    node: Database,
    worker: Uuid,
    served: AtomicU32,
    fleet: Fleet,
    _database: maxscale_tests::Database,
}

// === impl Bench ===

impl Bench {
    async fn start(server: &PostgresServer) -> Self {
        let database = server.database().await;
        let node = NodeSpec::parse(&database.url(), 1).unwrap();
        // Some statements here wait for what the test does, on whatever machine.
        let mut options = DatabaseOptions::default();
        options.statement_timeout = PATIENCE;
        options.lock_timeout = PATIENCE;
        options.idle_in_transaction = PATIENCE;
        let config = FleetConfig::new(vec![node])
            .options(options)
            .migrations(MIGRATIONS);
        let fleet = Fleet::open(config).await.unwrap();
        let router = fleet.router();
        let bench = Self {
            ids: IdGenerator::new(Clock::system(), router.keyspace()),
            node: router.nodes()[0].background(),
            worker: Uuid::new_v4(),
            served: AtomicU32::new(0),
            fleet,
            _database: database,
        };
        let hours = Duration::from_hours(24);
        let mut node = bench.node.writer().await.unwrap();
        enter(&mut node, bench.worker, hours).await.unwrap();
        drop(node);
        bench
    }

    /// Stores so many jobs all over the slots, due then or at once.
    async fn fill(&self, jobs: u32, run_at: Option<Timestamp>) {
        self.put(0..jobs, run_at).await;
    }

    /// Stores jobs, each on the virtual shard that its number names.
    async fn put(&self, mut numbers: impl Iterator<Item = u32>, run_at: Option<Timestamp>) {
        let common = Common {
            kind: "test.long",
            version: 1,
            queue: QUEUE,
            max_attempts: 5,
            retain: Duration::from_hours(1),
            retain_dead: Duration::from_hours(1),
            trace: None,
            run_at,
            delay: Duration::ZERO,
            expires: None,
            timeout: None,
            priority: 0,
            tenant: None,
            tags: BTreeSet::new(),
            unique: None,
            seal: None,
        };
        loop {
            let chunk = numbers.by_ref().take(CHUNK as usize);
            let chunk: Vec<NewJob> = chunk.map(|number| self.job(number)).collect();
            if chunk.is_empty() {
                return;
            }
            insert_many(&self.node, &common, &chunk).await.unwrap();
        }
    }

    fn job(&self, number: u32) -> NewJob {
        let shard = VirtualShard::new(number % 1_024);
        NewJob {
            shard,
            id: JobId::from(self.ids.draw(shard)),
            args: StoredArgs {
                text: format!(r#"{{"text":"{}"}}"#, "x".repeat(100)),
                sealed_by: None,
            },
            plain: None,
            slot: slot::of_shard(shard),
            key: None,
        }
    }

    /// A claim as the worker makes it, and how long it took.
    async fn claim(&self) -> (Vec<Claimed>, Duration) {
        promote(&self.node, CHUNK).await.unwrap();
        let start = Instant::now();
        let wanted = Wanted {
            queue: QUEUE,
            kinds: KINDS,
            worker: self.worker,
            most: BATCH,
            suspect: true,
            served: self.served.load(Ordering::Relaxed),
            frozen: Arc::default(),
        };
        let claimed = claim(&self.node, &wanted).await.unwrap();
        let took = start.elapsed();
        let slots = claimed.iter().map(|job| job.slot);
        let last = slot::served_last(wanted.served, slots);
        self.served.store(last, Ordering::Relaxed);
        (claimed, took)
    }

    async fn settle(&self, claimed: &[Claimed]) {
        let done = |job: &Claimed| Ended {
            lease: job.facts.lease,
            ending: Ending::Done { result: None },
            ran: Duration::ZERO,
        };
        let endings: Vec<Ended> = claimed.iter().map(done).collect();
        let taken = settle(&self.node, &endings).await.unwrap();
        assert_eq!(taken.len(), claimed.len());
    }

    /// Claims and settles so many batches; gives what the claims took, in order.
    async fn work(&self, batches: usize) -> Vec<Duration> {
        let mut all = Vec::new();
        for _ in 0..batches {
            let (claimed, took) = self.claim().await;
            assert_eq!(claimed.len(), BATCH);
            self.settle(&claimed).await;
            all.push(took);
        }
        all.sort_unstable();
        all
    }
}

/// The median of what is in order.
fn median(sorted: &[Duration]) -> Duration {
    sorted[sorted.len() / 2]
}

/// The 99th percentile of what is in order.
fn p99(sorted: &[Duration]) -> Duration {
    sorted[(sorted.len() * 99).div_ceil(100) - 1]
}
