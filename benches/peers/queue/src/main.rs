//! Jobs that do nothing, on one PostgreSQL that waits for its disk: our queue,
//! graphile_worker and apalis.
//!
//! Each turn has a fresh database, which is filled and then run empty. It is over when
//! the last end is in the database.

mod apalis;
mod graphile;
#[path = "../../../src/queue/ours.rs"]
mod ours;

use std::time::Duration;

use maxscale_core::BoxError;
use maxscale_measure::{Bar, Op, Plan, Report, Rounds};
use maxscale_tests::PostgresServer;

use apalis::Apalis;
use graphile::Graphile;
use ours::Ours;

/// How many jobs of a peer run at once.
const CONCURRENCY: usize = 500;

/// Of each peer's pool.
const CONNECTIONS: u32 = 16;

/// A queue on a database of its own.
trait Side: Sized {
    async fn open(server: &PostgresServer) -> Result<Self, BoxError>;

    /// Enqueues so many jobs together.
    async fn fill(&self, count: u32) -> Result<Duration, BoxError>;

    /// Runs them all.
    async fn drain(self, count: u32) -> Result<Duration, BoxError>;
}

/// What a turn took.
struct Turn {
    filled: Duration,
    drained: Duration,
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let plan = if quick { Plan::QUICK } else { Plan::FULL };
    let report = &mut Report::default();
    let server = PostgresServer::start().await;

    let count = plan.pick(40_000, 1_000);
    let mut drained = plan.compare();
    let mut filled = plan.compare();
    for round in 0..plan.pick(9, 1) {
        let (a, b) = turns::<Graphile>(&server, report, "graphile_worker", round, count).await?;
        drained.add(a.drained.as_secs_f64(), b.drained.as_secs_f64());
        filled.add(a.filled.as_secs_f64(), b.filled.as_secs_f64());
    }
    judge(report, "queue.noop_vs_graphile_worker_rs", &drained, 0.8);
    judge(
        report,
        "queue.bulk_enqueue_vs_graphile_worker_rs",
        &filled,
        1.5,
    );

    let mut drained = plan.compare();
    for round in 0..plan.pick(9, 1) {
        let (a, b) = turns::<Apalis>(&server, report, "apalis", round, count / 2).await?;
        drained.add(a.drained.as_secs_f64(), b.drained.as_secs_f64());
    }
    judge(report, "queue.noop_vs_apalis", &drained, 2.0);
    Ok(())
}

/// A turn of ours and one of theirs, who comes first in turn.
async fn turns<S: Side>(
    server: &PostgresServer,
    report: &mut Report,
    name: &str,
    round: u32,
    count: u32,
) -> Result<(Turn, Turn), BoxError> {
    let (a, b) = if round.is_multiple_of(2) {
        let a = turn::<Ours>(server, count).await?;
        (a, turn::<S>(server, count).await?)
    } else {
        let b = turn::<S>(server, count).await?;
        (turn::<Ours>(server, count).await?, b)
    };
    let rate = |time: Duration| f64::from(count) / time.as_secs_f64();
    report.note(&format!(
        "ours {:.0}/s in, {:.0}/s out; {name} {:.0}/s in, {:.0}/s out",
        rate(a.filled),
        rate(a.drained),
        rate(b.filled),
        rate(b.drained),
    ));
    Ok((a, b))
}

async fn turn<S: Side>(server: &PostgresServer, count: u32) -> Result<Turn, BoxError> {
    let side = S::open(server).await?;
    Ok(Turn {
        filled: side.fill(count).await?,
        drained: side.drain(count).await?,
    })
}

fn judge(report: &mut Report, name: &str, rounds: &Rounds, target: f64) {
    let speed = rounds.speed();
    report.note(&format!("{name}: {speed}"));
    report.bar(Bar {
        name,
        measured: speed.value,
        op: Op::AtLeast,
        target,
    });
}

// === impl Ours ===

impl Side for Ours {
    async fn open(server: &PostgresServer) -> Result<Self, BoxError> {
        Self::open(server, None).await
    }

    async fn fill(&self, count: u32) -> Result<Duration, BoxError> {
        self.fill(count).await
    }

    async fn drain(self, count: u32) -> Result<Duration, BoxError> {
        self.drain(count).await
    }
}
