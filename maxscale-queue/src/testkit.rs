//! For tests: of databases, and of services that enqueue jobs.
//!
//! A service's test runs jobs by [`WorkerBuilder::drain`](crate::WorkerBuilder::drain),
//! on its own databases, and lets time go by with [`pass`].
//!
//! What every database under a queue must keep is a suite; run [`check`] against yours.
//! The store is statements on the handles of `maxscale_shard`, so what varies is the
//! database: another PostgreSQL, an engine that speaks like it, a file. Each end of a
//! run is made well, after its worker died, twice, by a stale token and by another
//! worker; then all at once. Claims are checked in both forms that there are: one
//! statement per node, and one per virtual shard, as Citus needs it.
//!
//! ```no_run
//! # async fn check(queue: maxscale_queue::Queue) {
//! maxscale_queue::testkit::check(&queue).await;
//! # }
//! ```

mod alone;
mod ends;
mod races;
mod time;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use maxscale_core::fact::VirtualShard;
use maxscale_shard::{Conn, Database, Shard, ShardError};
use tokio::time::sleep;
use uuid::Uuid;

use crate::job::JobId;
use crate::queue::Queue;
use crate::seal::StoredArgs;
use crate::store::{self, Claimed, Common, Ended, Ending, Form, Lease, NewJob, Seen, Wanted};

pub use time::pass;

/// Longer than the suite runs.
const LEASE: Duration = Duration::from_secs(3_600);
const QUEUE: &str = "maxscale.testkit";
const KIND: &str = "maxscale.testkit";
const MANY: usize = 1_000;
/// How often what needs the clock to go on is tried, a millisecond apart.
const TRIES: u32 = 5_000;

/// Runs the whole suite on the queue's first node, which nobody else uses meanwhile and
/// which has run [`MIGRATIONS`](crate::MIGRATIONS).
///
/// # Panics
///
/// Panics at the first promise that the database breaks. Outside a tokio runtime.
pub async fn check(queue: &Queue) {
    for form in [Form::NodeWide, Form::ByShard] {
        let suite = Suite::new(queue.clone(), form);
        suite.ends().await;
        suite.alone().await;
        suite.races().await;
    }
}

#[derive(Clone)]
struct Suite {
    queue: Queue,
    node: Database,
    /// One of the node's.
    shard: Shard,
    form: Form,
}

/// An end of a run that took no time.
fn ended(lease: Lease, ending: Ending) -> Ended {
    let ran = Duration::ZERO;
    Ended { lease, ending, ran }
}

// === impl Suite ===

impl Suite {
    fn new(queue: Queue, form: Form) -> Self {
        let mut shards = (0..queue.router().shards()).map(VirtualShard::new);
        let own = shards.find(|shard| queue.serving(*shard) == Some(0));
        let own = own.expect("the first node has a virtual shard");
        Self {
            node: queue.node(0).background(),
            shard: ok(queue.router().virtual_shard(own)),
            queue,
            form,
        }
    }

    /// A worker with a lease.
    async fn worker(&self) -> Uuid {
        let worker = Uuid::new_v4();
        let mut node = self.connection().await;
        ok(store::enter(&mut node, worker, LEASE).await);
        worker
    }

    async fn connection(&self) -> Conn {
        ok(self.node.writer().await)
    }

    /// Renews the worker's lease for this long; whether there was one.
    async fn renew(&self, worker: Uuid, lease: Duration) -> bool {
        let mut node = self.connection().await;
        ok(store::renew(&mut node, worker, lease).await)
    }

    fn common() -> Common {
        Common {
            kind: KIND,
            version: 1,
            queue: QUEUE,
            max_attempts: 5,
            retain: LEASE,
            retain_dead: LEASE,
            trace: None,
            run_at: None,
            delay: Duration::ZERO,
            expires: None,
            timeout: None,
            priority: 0,
            tenant: None,
            tags: BTreeSet::new(),
            unique: None,
            seal: None,
        }
    }

    async fn put(&self) -> JobId {
        self.put_with(&Self::common()).await
    }

    async fn put_with(&self, common: &Common) -> JobId {
        let id: JobId = self.queue.ids().draw(self.shard.id()).into();
        let job = NewJob {
            shard: self.shard.id(),
            id,
            args: StoredArgs {
                text: "{}".to_owned(),
                sealed_by: None,
            },
            plain: None,
            slot: 7,
            key: None,
        };
        ok(store::insert(&self.shard, common, &job).await);
        job.id
    }

    /// Takes up to `most`, as a worker does.
    async fn claim(&self, worker: Uuid, most: usize) -> Vec<Claimed> {
        self.claim_past(worker, most, Arc::from([])).await
    }

    async fn claim_past(&self, worker: Uuid, most: usize, frozen: Arc<[i32]>) -> Vec<Claimed> {
        let wanted = Wanted {
            queue: QUEUE,
            kinds: &format!(r#"{{"{KIND}":1}}"#),
            worker,
            most,
            suspect: true,
            served: 0,
            frozen,
        };
        ok(store::claim_by(self.form, &self.node, &wanted).await)
    }

    /// Takes the one job there is.
    async fn claim_one(&self, worker: Uuid) -> Lease {
        let claimed = self.claim(worker, MANY).await;
        let leases: Vec<_> = claimed.iter().map(|job| job.facts.lease).collect();
        assert_eq!(leases.len(), 1, "one job is there to be claimed");
        leases[0]
    }

    /// A job that a worker of its own runs.
    async fn running(&self) -> Lease {
        self.put().await;
        self.claim_one(self.worker().await).await
    }

    async fn settle(&self, lease: Lease, ending: Ending) -> bool {
        let taken = ok(store::settle(&self.node, &[ended(lease, ending)]).await);
        taken.contains(&(lease.job, lease.token))
    }

    /// Has the worker's lease run out, as that of one who was killed.
    async fn die(&self, worker: Uuid) {
        self.renew(worker, Duration::ZERO).await;
        for _ in 0..TRIES {
            if ok(store::bury(&self.node).await) > 0 {
                return;
            }
            sleep(Duration::from_millis(1)).await;
        }
        panic!("a lease of no time runs out");
    }

    async fn rescue(&self) -> usize {
        ok(store::rescue(&self.node, 1_000).await).len()
    }

    async fn seen(&self, job: JobId) -> Seen {
        let seen = ok(store::seen(&self.shard, job).await);
        seen.expect("the job's row is there")
    }

    /// Leaves nothing to the next case.
    async fn wipe(&self) {
        ok(store::wipe(&self.node, QUEUE).await);
    }
}

#[track_caller]
fn ok<T>(result: Result<T, ShardError>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("the database failed: {}", maxscale_core::Chain(&error)),
    }
}
