//! Jobs that do nothing, on the queues of node: each round fills ours and theirs, and
//! then runs them empty.

use maxscale_core::{BoxError, Chain};
use maxscale_measure::{Bar, Op, Plan, Report};
use maxscale_tests::{PostgresServer, RedisServer};
use tokio::time::Instant;

use super::ours::Ours;
use crate::peer::{self, Npm};

const ROUNDS: u32 = 9;

/// A peer in node and what it is held to.
struct Peer {
    name: &'static str,
    bar: &'static str,
    target: f64,
    /// How many jobs it runs in about two seconds.
    count: u32,
}

const GRAPHILE: Peer = Peer {
    name: "graphile-worker",
    bar: "queue.noop_vs_graphile_worker_js",
    target: 3.0,
    count: 20_000,
};

const BULLMQ: Peer = Peer {
    name: "bullmq",
    bar: "queue.noop_vs_bullmq",
    target: 6.0,
    count: 8_000,
};

/// How many of ours take about as long.
const OURS: u32 = 40_000;

pub(super) async fn run(plan: &Plan, report: &mut Report) -> Result<(), BoxError> {
    if plan.is_quick() {
        peer::skip(report, &[GRAPHILE.bar, BULLMQ.bar]);
        return Ok(());
    }
    let server = PostgresServer::start().await;
    let database = server.database().await;
    versus(plan, report, &server, &GRAPHILE, &database.url()).await?;
    let redis = RedisServer::start_durable().await;
    versus(plan, report, &server, &BULLMQ, &redis.url()).await
}

/// Without node or a package the bar is missing, and the others are measured.
async fn versus(
    plan: &Plan,
    report: &mut Report,
    server: &PostgresServer,
    peer: &Peer,
    url: &str,
) -> Result<(), BoxError> {
    let npm = match Npm::start("queue", &[peer.name.to_owned(), url.to_owned()]).await {
        Ok(npm) => npm,
        Err(error) => {
            report.note(&format!("no {}: {}", peer.name, Chain(&*error)));
            report.missing(peer.bar);
            return Ok(());
        }
    };
    let mut rounds = plan.compare();
    for round in 0..ROUNDS {
        let (ours, theirs) = if round.is_multiple_of(2) {
            let ours = turn_of_ours(server).await?;
            (ours, turn(&npm, peer.count).await?)
        } else {
            let theirs = turn(&npm, peer.count).await?;
            (turn_of_ours(server).await?, theirs)
        };
        report.note(&format!("ours {ours:.0}/s, {} {theirs:.0}/s", peer.name));
        rounds.add(1.0 / ours, 1.0 / theirs);
    }
    let speed = rounds.speed();
    report.note(&format!("{}: {speed}", peer.bar));
    report.bar(Bar {
        name: peer.bar,
        measured: speed.value,
        op: Op::AtLeast,
        target: peer.target,
    });
    Ok(())
}

/// Jobs per second.
async fn turn_of_ours(server: &PostgresServer) -> Result<f64, BoxError> {
    let side = Ours::open(server, None).await?;
    side.fill(OURS).await?;
    Ok(f64::from(OURS) / side.drain(OURS).await?.as_secs_f64())
}

async fn turn(npm: &Npm, count: u32) -> Result<f64, BoxError> {
    npm.ask(&format!("fill {count}")).await?;
    let start = Instant::now();
    npm.ask(&format!("drain {count}")).await?;
    Ok(f64::from(count) / start.elapsed().as_secs_f64())
}
