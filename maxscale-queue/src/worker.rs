//! Runs jobs: one claimer and one lease per node, a batch per settlement.

mod counts;
mod depth;
#[cfg(feature = "testkit")]
mod drain;
mod ending;
mod frozen;
mod handler;
mod hear;
mod keeper;
mod lease;
mod node;
mod pacemaker;
mod run;
mod standing;

use std::collections::HashMap;
use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll as Polled;
use std::time::Duration;

use maxscale_core::control::Backoff;
use maxscale_core::meter::span::Sampler;
use maxscale_core::meter::{self, Meter};
use maxscale_core::refusal::Class;
use serde_json::{Map, Value};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use uuid::Uuid;

use crate::error::QueueError;
use crate::job::Job;
use crate::queue::Queue;
use crate::seal::Seals;

pub use handler::{Handler, Layered};

use counts::Counts;
use ending::Waits;
use handler::Erased;
use node::NodeWorker;
use pacemaker::Pacemaker;

/// Runs the jobs of a queue until it is shut down or dropped.
///
/// Dropping it aborts what runs, as a crash would: the jobs start again
/// elsewhere once their leases run out. [`shutdown`](Worker::shutdown) is the
/// orderly way.
#[derive(Debug)]
pub struct Worker {
    phase: watch::Sender<Phase>,
    nodes: JoinSet<()>,
}

/// Builds a [`Worker`]; see [`Worker::builder`].
#[must_use]
pub struct WorkerBuilder {
    queue: Queue,
    handlers: Vec<(Kind, Erased)>,
    concurrency: usize,
    lease: Duration,
    poll: Poll,
    waits: Waits,
    random: Box<dyn Fn() -> f64 + Send + Sync>,
    meter: Option<Meter>,
    sampler: Sampler,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    /// Claims and runs.
    Open,
    /// Claims no more, and lets what runs come to its end.
    Draining,
    /// Aborts what runs and hands it back.
    Aborting,
}

/// How long to wait before a node is asked again.
#[derive(Clone, Copy, Debug)]
struct Poll {
    busy: Duration,
    idle: Duration,
}

/// What a handler is registered for.
#[derive(Clone, Copy, Debug)]
struct Kind {
    kind: &'static str,
    version: u32,
    queue: &'static str,
    timeout: Duration,
}

/// Who runs jobs of a kind, and from which queue they come.
struct Registered {
    kind: &'static str,
    queue: &'static str,
    timeout: Duration,
    handler: Erased,
}

/// What the tasks of a worker share.
struct Shared {
    handlers: HashMap<&'static str, Registered>,
    /// Each queue with the kinds to claim from it, as JSON.
    queues: Vec<(&'static str, String)>,
    slots: Arc<Semaphore>,
    /// For the one job at a time that ran when a worker died.
    suspects: Arc<Semaphore>,
    lease: Duration,
    /// Ends with the last node's worker.
    pacemaker: Pacemaker,
    poll: Poll,
    waits: Waits,
    random: Box<dyn Fn() -> f64 + Send + Sync>,
    counts: Counts,
    /// Told how much waits, if somebody asks.
    meter: Option<Meter>,
    sampler: Sampler,
    seals: Seals,
}

// === impl Worker ===

impl Worker {
    /// Starts a worker for jobs of `queue`, on all its nodes.
    pub fn builder(queue: Queue) -> WorkerBuilder {
        WorkerBuilder {
            queue,
            handlers: Vec::new(),
            concurrency: WorkerBuilder::DEFAULT_CONCURRENCY,
            lease: WorkerBuilder::DEFAULT_LEASE,
            poll: Poll {
                busy: WorkerBuilder::DEFAULT_BUSY_POLL,
                idle: WorkerBuilder::DEFAULT_IDLE_POLL,
            },
            waits: Waits {
                plain: WorkerBuilder::DEFAULT_BACKOFF,
                by_class: HashMap::new(),
            },
            random: Box::new(draw),
            meter: None,
            sampler: Sampler::NONE,
        }
    }

    /// Stops: claims nothing more, waits up to `grace` for what runs, then
    /// aborts the rest and hands it back without costing it an attempt.
    ///
    /// A handler that blocks its thread cannot be aborted; its job is not
    /// handed back, and starts again once its lease runs out.
    pub async fn shutdown(mut self, grace: Duration) {
        self.phase.send_replace(Phase::Draining);
        if timeout(grace, all(&mut self.nodes)).await.is_ok() {
            return;
        }
        self.phase.send_replace(Phase::Aborting);
        if timeout(HAND_BACK, all(&mut self.nodes)).await.is_err() {
            tracing::warn!("not every job could be handed back; their leases will run out");
        }
    }
}

/// How long a shutdown tries to hand back, after its grace.
const HAND_BACK: Duration = Duration::from_secs(5);
const SHORTEST_LEASE: Duration = Duration::from_millis(100);
const SHORTEST_POLL: Duration = Duration::from_millis(1);

/// Waits for the worker to be that far in its end, or for ever.
///
/// A worker that was dropped says nothing any more: its tasks are about to be
/// aborted, and must not hand anything back on the way.
async fn reached(phase: &mut watch::Receiver<Phase>, wanted: Phase) {
    if phase.wait_for(|phase| *phase >= wanted).await.is_err() {
        std::future::pending().await
    }
}

/// What the first to end yields, `left` where both have. The other one is dropped.
///
/// tokio's `select!` would bring a crate of procedural macros.
async fn race<T>(left: impl Future<Output = T>, right: impl Future<Output = T>) -> T {
    let (mut left, mut right) = (pin!(left), pin!(right));
    poll_fn(|cx| match left.as_mut().poll(cx) {
        Polled::Ready(ended) => Polled::Ready(ended),
        Polled::Pending => right.as_mut().poll(cx),
    })
    .await
}

async fn all(tasks: &mut JoinSet<()>) {
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            tracing::error!(%error, "a worker's task ended early");
        }
    }
}

// === impl WorkerBuilder ===

impl WorkerBuilder {
    /// How many jobs run at once unless set otherwise.
    pub const DEFAULT_CONCURRENCY: usize = 4;
    /// How long a lease lasts unless set otherwise.
    pub const DEFAULT_LEASE: Duration = Duration::from_secs(10);
    /// How soon a node that had jobs is asked for more, unless set otherwise.
    pub const DEFAULT_BUSY_POLL: Duration = Duration::from_millis(200);
    /// How soon a node that has had no jobs for a while is asked again, unless set otherwise.
    pub const DEFAULT_IDLE_POLL: Duration = Duration::from_secs(1);
    /// The waits between attempts unless set otherwise: 1 s, doubling, at most 5 min.
    pub const DEFAULT_BACKOFF: Backoff =
        Backoff::new(Duration::from_secs(1), Duration::from_secs(300));

    /// Runs jobs of type `J` with `handler`. Kinds without a handler are left to others.
    pub fn register<J: Job, H: Handler<J>>(mut self, handler: H) -> Self {
        let kind = Kind {
            kind: J::KIND,
            version: J::VERSION,
            queue: J::QUEUE,
            timeout: J::TIMEOUT,
        };
        self.handlers.push((kind, handler::erase(handler)));
        self
    }

    /// Sets how many jobs run at once, on all nodes together; at least 1.
    ///
    /// Default: [`WorkerBuilder::DEFAULT_CONCURRENCY`].
    pub fn concurrency(mut self, jobs: usize) -> Self {
        self.concurrency = jobs.clamp(1, Semaphore::MAX_PERMITS);
        self
    }

    /// Sets how long a lease lasts, at least 100 ms; it is renewed when three
    /// tenths of it have passed.
    ///
    /// It bounds how soon a job starts again after its worker was killed. Renewals have
    /// a thread and a connection to each node of their own, so that a handler that blocks
    /// its runtime loses nothing, unless that says nothing for six leases. On SQLite a
    /// renewal waits for whoever writes: a write transaction that is open for longer than
    /// six tenths of a lease may cost it. Handlers are stopped then, and their jobs start
    /// again. A machine that sleeps may wake up with handlers whose lease is over; what
    /// they write by [`JobRequest::complete_in`](crate::JobRequest::complete_in) is refused.
    /// Default: [`WorkerBuilder::DEFAULT_LEASE`].
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease.max(SHORTEST_LEASE);
        self
    }

    /// Sets how soon a node is asked for jobs again: after it had some, and
    /// when it has had none for a while. The wait grows from one to the other.
    ///
    /// At least 1 ms. What is enqueued is seen at once in any case, by this process and, on
    /// PostgreSQL, by others; these are for retries, delays, jobs of dead workers, and
    /// other processes where nothing is announced.
    /// Default: [`WorkerBuilder::DEFAULT_BUSY_POLL`], [`WorkerBuilder::DEFAULT_IDLE_POLL`].
    pub fn poll(mut self, busy: Duration, idle: Duration) -> Self {
        let busy = busy.max(SHORTEST_POLL);
        let idle = idle.max(busy);
        self.poll = Poll { busy, idle };
        self
    }

    /// Sets the waits between attempts. Default: [`WorkerBuilder::DEFAULT_BACKOFF`].
    pub const fn backoff(mut self, backoff: Backoff) -> Self {
        self.waits.plain = backoff;
        self
    }

    /// Sets the waits after [failures](crate::Failure) of one class. What takes too long
    /// is of the class `Timeout`, a panic is `Internal`. Default: as all others.
    pub fn backoff_for(mut self, class: Class, backoff: Backoff) -> Self {
        self.waits.by_class.insert(class, backoff);
        self
    }

    /// Sets where jitter comes from: draws between 0 and 1. Default: the operating system.
    pub fn random(mut self, random: impl Fn() -> f64 + Send + Sync + 'static) -> Self {
        self.random = Box::new(random);
        self
    }

    /// Counts `maxscale.queue.claimed`, and `maxscale.queue.ended` by outcome; measures
    /// `maxscale.queue.claim.duration` of claims that gave jobs, `maxscale.queue.wait` from
    /// when a job is due to its claim, and `maxscale.queue.run.duration` by kind; and
    /// tells `maxscale.queue.depth` and `maxscale.queue.age` by queue and node. Default: nowhere.
    ///
    /// Of several workers that share a meter only the last one's counts are seen.
    pub fn meter(mut self, meter: Meter) -> Self {
        self.meter = Some(meter);
        self
    }

    /// Sets which runs are recorded as traces of their own: of jobs that were
    /// enqueued outside of any trace. Default: none.
    pub fn sampler(mut self, sampler: Sampler) -> Self {
        self.sampler = sampler;
        self
    }

    /// Starts the worker on the current runtime.
    ///
    /// A node that is not ready is served from when it is.
    ///
    /// # Errors
    ///
    /// Returns [`QueueError::RegisteredTwice`] for two handlers of one kind,
    /// [`QueueError::NoTime`] for a [`Job::TIMEOUT`] of zero, and
    /// [`QueueError::Thread`] where the system gives no thread.
    ///
    /// # Panics
    ///
    /// Panics outside a tokio runtime.
    pub fn start(self) -> Result<Worker, QueueError> {
        self.launch().map(|(worker, _)| worker)
    }

    /// Starts it; gives also what its tasks share.
    fn launch(self) -> Result<(Worker, Arc<Shared>), QueueError> {
        let mut handlers = HashMap::new();
        let mut queues: HashMap<&'static str, Map<String, Value>> = HashMap::new();
        for (kind, handler) in self.handlers {
            if kind.timeout.is_zero() {
                return Err(QueueError::NoTime);
            }
            let registered = Registered {
                kind: kind.kind,
                queue: kind.queue,
                timeout: kind.timeout,
                handler,
            };
            if handlers.insert(kind.kind, registered).is_some() {
                return Err(QueueError::RegisteredTwice { kind: kind.kind });
            }
            let kinds = queues.entry(kind.queue).or_default();
            kinds.insert(kind.kind.to_owned(), kind.version.into());
        }
        let listed = queues
            .into_iter()
            .map(|(queue, kinds)| (queue, Value::from(kinds).to_string()));
        let shared = Arc::new(Shared {
            handlers,
            queues: listed.collect(),
            slots: Arc::new(Semaphore::new(self.concurrency)),
            suspects: Arc::new(Semaphore::new(1)),
            lease: self.lease,
            pacemaker: Pacemaker::start().map_err(QueueError::Thread)?,
            poll: self.poll,
            waits: self.waits,
            random: self.random,
            counts: Counts::register(self.meter.as_ref().unwrap_or(&meter::nowhere())),
            meter: self.meter,
            sampler: self.sampler,
            seals: self.queue.seals().clone(),
        });
        let phase = watch::Sender::new(Phase::Open);
        let mut nodes = JoinSet::new();
        for node in 0..self.queue.nodes() {
            let serve = NodeWorker::new(shared.clone(), self.queue.clone(), node);
            nodes.spawn(serve.run(phase.subscribe()));
        }
        Ok((Worker { phase, nodes }, shared))
    }
}

fn draw() -> f64 {
    let bits = Uuid::new_v4().as_u64_pair().1;
    // The low 32 bits of a version 4 UUID are all random.
    let low = u32::try_from(bits & u64::from(u32::MAX)).unwrap_or_default();
    f64::from(low) / f64::from(u32::MAX)
}

impl fmt::Debug for WorkerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds: Vec<_> = self.handlers.iter().map(|(kind, _)| kind.kind).collect();
        f.debug_struct("WorkerBuilder")
            .field("kinds", &kinds)
            .field("concurrency", &self.concurrency)
            .field("lease", &self.lease)
            .finish_non_exhaustive()
    }
}
