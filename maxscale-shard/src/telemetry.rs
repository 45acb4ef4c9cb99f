//! What databases and routers tell of themselves.
//!
//! Metrics go to the meter in a [`Telemetry`], their names and labels are those of
//! OpenTelemetry's conventions for database clients where these have some:
//!
//! | metric | labels |
//! | --- | --- |
//! | `db.client.operation.duration` | `db.system.name`, `maxscale.node`, `db.operation.name` (`statement`, `begin`, `commit`, `rollback`, savepoints included, and `script`), and `error.type` where it failed |
//! | `maxscale.shard.transaction.duration` | `maxscale.node`, `outcome` (`committed`, `rolled_back`, `aborted`, `unknown`, `dropped`, and `prepared` for a part of a two-phase commit) |
//! | `db.client.connection.wait_time` | `db.client.connection.pool.name` |
//! | `db.client.connection.timeouts` | the same |
//! | `db.client.connection.count` | the same, `db.client.connection.state` (`used`, `idle`) |
//! | `db.client.connection.max` | the same |
//!
//! A node has two pools: for requests, which has the node's name, and
//! `<node>/background`; of a SQLite file they are `<node>`, its writer, and
//! `<node>/readers`. What idles on PostgreSQL serves both and is told of the first.
//!
//! Each call of a database is a span of level `debug` with the system, the node,
//! the operation and, where it failed, the error's type; never with the statement
//! or its parameters.
//!
//! How many requests there are per virtual shard, and for which keys most, is no
//! metric: it would be as many series as there are shards. A [`Load`] is asked for it.

mod load;
mod topk;

use std::sync::Arc;
use std::time::Duration;

use maxscale_core::meter::{self, HotCounter, HotHistogram, HotHistograms, Meter, Metric, gauge};
use tokio::time::Instant;

use crate::database::{Pool, Usage};
use crate::engine::verdict;
use crate::error::ShardError;
use crate::sql::Engine;

pub use load::{HotKey, KeyHash, Load, LoadOptions};

/// What is measured, and where it goes. By default nothing, which costs nothing.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Telemetry {
    pub(crate) meter: Option<Meter>,
    pub(crate) load: Option<LoadOptions>,
}

/// What is counted of one database; nothing unless somebody gave a meter. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts(Option<Arc<Counted>>);

#[derive(Debug)]
struct Counted {
    system: &'static str,
    name: Arc<str>,
    /// By operation and error.
    operations: HotHistograms<(&'static str, Option<&'static str>)>,
    /// By how they ended.
    transactions: HotHistograms<&'static str>,
    /// Of requests or the writer, and of background work or the readers.
    pools: [PoolCounts; 2],
    /// Read at each scrape, and closed when nobody uses the database any more.
    pool: Pool,
}

#[derive(Debug)]
struct PoolCounts {
    name: Arc<str>,
    waits: HotHistogram,
    timeouts: HotCounter,
}

/// When something began, if anybody wants to know.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Began(Option<Instant>);

/// How a transaction ended.
#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    Committed,
    RolledBack,
    Aborted,
    Unknown,
    Dropped,
    Prepared,
}

const OPERATION: Metric = Metric::new(
    "db.client.operation.duration",
    "s",
    "Time from sending a statement, or the begin or end of a transaction, to its answer.",
);
const TRANSACTION: Metric = Metric::new(
    "maxscale.shard.transaction.duration",
    "s",
    "Time from a transaction's begin to its end.",
);
const WAIT: Metric = Metric::new(
    "db.client.connection.wait_time",
    "s",
    "Time until a connection was had, or was not.",
);
const TIMEOUTS: Metric = Metric::new(
    "db.client.connection.timeouts",
    "{timeout}",
    "Times that no connection was had in time.",
);
const CONNECTIONS: Metric = Metric::new(
    "db.client.connection.count",
    "{connection}",
    "Connections in a state.",
);
const MAX: Metric = Metric::new(
    "db.client.connection.max",
    "{connection}",
    "The most connections that may be used at once.",
);

const SYSTEM: &str = "db.system.name";
const NODE: &str = "maxscale.node";
const NAME: &str = "db.operation.name";
const ERROR: &str = "error.type";
const POOL: &str = "db.client.connection.pool.name";
const STATE: &str = "db.client.connection.state";
const OUTCOME: &str = "outcome";

/// In seconds. A row that is in memory takes a fraction of a millisecond.
const BUCKETS: [f64; 12] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0,
];

/// The label of an operation; scripts are of migrations, and take as long as they
/// take, as do streams, whose rows somebody else takes.
pub(crate) fn operation(method: &'static str) -> &'static str {
    match method {
        "begin" | "nest" => "begin",
        "commit" | "commit_marked" => "commit",
        "rollback" => "rollback",
        "run_script" => "script",
        "pour" => "stream",
        _ => "statement",
    }
}

/// The label of an error, of a closed set.
pub(crate) const fn error_type(error: &ShardError) -> &'static str {
    match error {
        ShardError::Connect { .. } | ShardError::NotReady { .. } => "unreachable",
        ShardError::Deadline { .. } => "deadline",
        ShardError::Busy { .. } => "busy",
        ShardError::Unique { .. } => "unique",
        ShardError::Statement { .. } => "refused",
        ShardError::Aborted { .. } => "aborted",
        ShardError::OutcomeUnknown { .. } => "unknown",
        _ => meter::label::OTHER,
    }
}

pub(crate) const fn system(engine: Engine) -> &'static str {
    match engine {
        Engine::Postgres => "postgresql",
        Engine::Sqlite => "sqlite",
    }
}

// === impl Telemetry ===

impl Telemetry {
    /// Nothing is measured.
    pub fn new() -> Self {
        Self::default()
    }

    /// Measures with `meter`. Give one meter to one router or fleet: two would
    /// report the same instruments.
    pub fn meter(mut self, meter: &Meter) -> Self {
        self.meter = Some(meter.clone());
        self
    }

    /// Counts the requests of each virtual shard and finds the hottest keys.
    pub fn load(mut self, options: LoadOptions) -> Self {
        self.load = Some(options);
        self
    }
}

// === impl Counts ===

impl Counts {
    /// Counts the database `name` from now on.
    #[cfg_attr(
        not(any(feature = "postgres", feature = "sqlite")),
        expect(
            unreachable_code,
            unused_variables,
            reason = "without an engine there is no pool"
        )
    )]
    pub(crate) fn of(meter: &Meter, engine: Engine, name: &Arc<str>, pool: &Pool) -> Self {
        let second = match engine {
            Engine::Postgres => "background",
            Engine::Sqlite => "readers",
        };
        let counts = |name: Arc<str>| PoolCounts {
            waits: HotHistogram::register(meter, WAIT, &BUCKETS, &[(POOL, &name)]),
            timeouts: HotCounter::register(meter, TIMEOUTS, &[(POOL, &name)]),
            name,
        };
        let second = format!("{name}/{second}").into();
        let counted = Arc::new(Counted {
            operations: HotHistograms::new(meter, OPERATION, &BUCKETS),
            transactions: HotHistograms::new(meter, TRANSACTION, &BUCKETS),
            system: system(engine),
            name: name.clone(),
            pools: [counts(name.clone()), counts(second)],
            pool: pool.clone(),
        });
        for at in 0..counted.pools.len() {
            counted.show(meter, CONNECTIONS, at, Some("used"), |usage| {
                Some(usage.used)
            });
            counted.show(meter, CONNECTIONS, at, Some("idle"), |usage| usage.idle);
            counted.show(meter, MAX, at, None, |usage| Some(usage.most));
        }
        Self(Some(counted))
    }

    pub(crate) fn begin(&self) -> Began {
        Began(self.0.as_ref().map(|_| Instant::now()))
    }

    /// An operation was answered, or given up.
    pub(crate) fn operated(&self, began: Began, name: &'static str, error: Option<&ShardError>) {
        let (Some(counted), Some(took)) = (&self.0, began.elapsed()) else {
            return;
        };
        let error = error.map(error_type);
        let histogram = counted.operations.of((name, error), || {
            let mut labels = vec![
                (SYSTEM, counted.system.to_owned()),
                (NODE, counted.name.to_string()),
                (NAME, name.to_owned()),
            ];
            labels.extend(error.map(|error| (ERROR, error.to_owned())));
            labels
        });
        histogram.record(took);
    }

    /// A transaction ended.
    pub(crate) fn ended(&self, began: Began, end: End) {
        let (Some(counted), Some(took)) = (&self.0, began.elapsed()) else {
            return;
        };
        let histogram = counted.transactions.of(end.label(), || {
            vec![
                (NODE, counted.name.to_string()),
                (OUTCOME, end.label().to_owned()),
            ]
        });
        histogram.record(took);
    }

    /// A connection of the pool in place `at` was had, or was not.
    pub(crate) fn waited(&self, began: Began, at: usize, error: Option<&ShardError>) {
        let (Some(counted), Some(took)) = (&self.0, began.elapsed()) else {
            return;
        };
        let pool = &counted.pools[at];
        pool.waits.record(took);
        if error.is_some_and(verdict::no_connection_in_time) {
            pool.timeouts.add(1);
        }
    }
}

// === impl Counted ===

impl Counted {
    /// Registers a gauge of the pool in place `at`, for as long as the database is used.
    fn show(
        self: &Arc<Self>,
        meter: &Meter,
        metric: Metric,
        at: usize,
        state: Option<&'static str>,
        read: fn(Usage) -> Option<u32>,
    ) {
        let labels = [(POOL, &*self.pools[at].name), (STATE, state.unwrap_or(""))];
        let labels = if state.is_some() {
            &labels[..]
        } else {
            &labels[..1]
        };
        let counted = Arc::downgrade(self);
        gauge(meter, metric, labels, move || {
            let usage = counted.upgrade()?.pool.usage(at);
            read(usage).map(f64::from)
        });
    }
}

// === impl Began ===

impl Began {
    fn elapsed(self) -> Option<Duration> {
        self.0.map(|at| at.elapsed())
    }
}

// === impl End ===

impl End {
    const fn label(self) -> &'static str {
        match self {
            Self::Committed => "committed",
            Self::RolledBack => "rolled_back",
            Self::Aborted => "aborted",
            Self::Unknown => "unknown",
            Self::Dropped => "dropped",
            Self::Prepared => "prepared",
        }
    }
}
