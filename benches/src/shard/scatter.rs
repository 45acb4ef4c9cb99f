//! One statement per node against one per virtual shard, and against the node alone
//! that takes longest.

use std::time::Duration;

use maxscale_core::BoxError;
use maxscale_core::fact::VirtualShard;
use maxscale_measure::{Bar, Op, Plan, Report};
use maxscale_shard::fleet::NodeSpec;
use maxscale_shard::{DatabaseOptions, Keyspace, Router, Sql, Topology, sql};
use maxscale_tests::{Database, PostgresServer, Proxy};

const NODES: usize = 4;
const SHARDS: u32 = Keyspace::DEFAULT_SHARDS;
/// Rows of each virtual shard.
const ROWS: usize = 4;

/// Before the statement, and after it.
const DELAY: Duration = Duration::from_millis(25);

/// Questions per turn: a connection that was silent through the turn of the other
/// side is asked for a sign of life before the first one, which takes as long.
const AT_LEAST: u32 = 8;

const TABLE: [&str; 2] = [
    "CREATE TABLE bench_scatter (
        shard_id integer NOT NULL,
        n bigint NOT NULL,
        body text NOT NULL,
        PRIMARY KEY (shard_id, n)
    )",
    "INSERT INTO bench_scatter (shard_id, n, body)
     SELECT shard, n, repeat('x', 100) FROM generate_series(0, 1023) AS shard,
        generate_series(1, 4) AS n WHERE shard / 256 = $1",
];
const ALL: Sql = Sql::both("SELECT n, body FROM bench_scatter WHERE shard_id = ANY($shards)");
const ONE: &str = "SELECT n, body FROM bench_scatter WHERE shard_id = $1";
const NODE: &str = "SELECT n, body FROM bench_scatter WHERE shard_id >= $1 AND shard_id < $2";

pub(crate) async fn run(plan: &Plan, report: &mut Report) -> Result<(), BoxError> {
    let server = PostgresServer::shared().await;
    let mut databases = Vec::new();
    for at in 0..NODES {
        databases.push(filled(server.database().await, at).await?);
    }
    let urls: Vec<String> = databases.iter().map(Database::url).collect();
    let mut rounds = plan.compare();
    while !rounds.are_enough() {
        let (scattered, looped) = (open(&urls)?, open(&urls)?);
        let ours = |count| scatter(scattered.clone(), count);
        let theirs = |count| each(looped.clone(), count);
        rounds.round(ours, theirs).await?;
        close([&scattered, &looped]).await;
    }
    report.note(&format!("shard.scatter_vs_loop: {}", rounds.speed()));
    report.bar(Bar {
        name: "shard.scatter_vs_loop",
        measured: rounds.speed().value,
        op: Op::AtLeast,
        target: 10.0,
    });

    let mut proxies = Vec::new();
    for url in &urls {
        let proxy = Proxy::start(url).await;
        proxy.delay(DELAY);
        proxies.push(proxy);
    }
    let urls: Vec<String> = proxies.iter().map(Proxy::url).collect();
    let mut rounds = plan.compare();
    while !rounds.are_enough() {
        let (scattered, alone) = (open(&urls)?, open(&urls)?);
        let ours = |count| scatter(scattered.clone(), count * AT_LEAST);
        let theirs = |count| one_node(alone.clone(), count * AT_LEAST);
        rounds.round(ours, theirs).await?;
        close([&scattered, &alone]).await;
    }
    report.note(&format!("shard.scatter_vs_slowest: {}", rounds.cost()));
    report.bar(Bar {
        name: "shard.scatter_vs_slowest",
        measured: rounds.cost().value,
        op: Op::AtMost,
        target: 1.3,
    });
    Ok(())
}

async fn filled(database: Database, at: usize) -> Result<Database, BoxError> {
    let options = DatabaseOptions::default();
    let handle = maxscale_shard::Database::open("filled", &database.url(), &options)?;
    handle.execute(sql(TABLE[0])).await?;
    let number = i64::try_from(at)?;
    handle.execute(sql(TABLE[1]).bind(number)).await?;
    handle.execute(sql("ANALYZE bench_scatter")).await?;
    handle.close().await;
    Ok(database)
}

fn open(urls: &[String]) -> Result<Router, BoxError> {
    let specs: Result<Vec<NodeSpec>, _> = (1..)
        .zip(urls)
        .map(|(at, url)| NodeSpec::parse(url, at))
        .collect();
    let specs = specs?;
    let nodes = specs.iter().map(|spec| spec.id().clone()).collect();
    let map = Topology::even(nodes, SHARDS)?;
    let options = DatabaseOptions::default();
    Ok(Router::open(Keyspace::default(), map, &specs, options)?)
}

async fn close(routers: [&Router; 2]) {
    for router in routers {
        for node in router.nodes().iter() {
            node.database().close().await;
        }
    }
}

async fn scatter(router: Router, count: u32) -> Result<(), BoxError> {
    for _ in 0..count {
        let answer = router.scatter(ALL.statement()).rows().await?;
        let rows = answer.value.iter().map(|node| node.rows.len()).sum();
        all_there(rows, SHARDS as usize * ROWS)?;
    }
    Ok(())
}

/// What a program does that knows virtual shards alone.
async fn each(router: Router, count: u32) -> Result<(), BoxError> {
    for _ in 0..count {
        let mut rows = 0;
        for shard in (0..SHARDS).map(VirtualShard::new) {
            let shard = router.virtual_shard(shard)?;
            rows += shard.fetch_all(sql(ONE).bind(shard.id())).await?.len();
        }
        all_there(rows, SHARDS as usize * ROWS)?;
    }
    Ok(())
}

/// The last of four that are alike.
async fn one_node(router: Router, count: u32) -> Result<(), BoxError> {
    let first = SHARDS / 4 * 3;
    let node = &router.nodes()[NODES - 1];
    for _ in 0..count {
        let statement = sql(NODE).bind(first).bind(SHARDS);
        let rows = node.background().fetch_all(statement).await?;
        all_there(rows.len(), SHARDS as usize / 4 * ROWS)?;
    }
    Ok(())
}

/// Fewer rows would be measured as a fast answer.
fn all_there(rows: usize, wanted: usize) -> Result<(), BoxError> {
    if rows == wanted {
        Ok(())
    } else {
        Err(format!("{rows} rows were read instead of {wanted}").into())
    }
}
