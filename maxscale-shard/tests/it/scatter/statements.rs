use std::fs;

use maxscale_core::id::KeyspaceTag;
use maxscale_shard::scatter::Aggregate;
use maxscale_shard::{Keyspace, Router, Topology, sql};
use maxscale_tests::{PostgresServer, eventually};

use super::fixture::{NODES, by_id, make_table, specs, things};
use crate::support::{LIMIT, options};

/// What the server was sent since `from` bytes of its log that reads the table.
fn sent(server: &PostgresServer, from: usize) -> (usize, usize) {
    let log = fs::read(server.folder().unwrap().join("log")).unwrap();
    let log = String::from_utf8_lossy(&log[from..]);
    let executed = log.lines().filter(|line| line.contains("LOG:  execute"));
    let executed: Vec<&str> = executed.collect();
    let reads = executed
        .iter()
        .filter(|line| line.contains("shard_id = ANY("))
        .count();
    (reads, executed.len())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scatter_over_1024_virtual_shards_on_4_nodes_is_4_statements() {
    let server = PostgresServer::start().await;
    let mut databases = Vec::new();
    for _ in 0..NODES {
        databases.push(server.database().await);
    }
    let urls: Vec<String> = databases
        .iter()
        .map(maxscale_tests::Database::url)
        .collect();
    let specs = specs(&urls);
    let nodes = specs.iter().map(|spec| spec.id().clone()).collect();
    let map = Topology::even(nodes, 1_024).unwrap();
    let keyspace = Keyspace::new(KeyspaceTag::default(), 1_024, "id".parse().unwrap()).unwrap();
    let router = Router::open(keyspace, map, &specs, options()).unwrap();
    for (node, database) in router.nodes().iter().zip(&databases) {
        make_table(node.database()).await;
        let one_each = "INSERT INTO thing (shard_id, id, n)
            SELECT n, lpad(to_hex(n), 32, '0')::uuid, n FROM generate_series(0, 1023) AS n";
        node.database().execute(sql(one_each)).await.unwrap();
        let log = format!(
            "ALTER DATABASE {} SET log_statement = 'all'",
            database.name()
        );
        node.database().execute(sql(log.leak())).await.unwrap();
        // Connections of before do not log.
        node.database().close().await;
    }
    // The same nodes, with connections that do.
    let map = router.topology();
    let router = Router::open(
        Keyspace::new(KeyspaceTag::default(), 1_024, "id".parse().unwrap()).unwrap(),
        Topology::clone(&map),
        &specs,
        options(),
    )
    .unwrap();
    let mark = || {
        fs::metadata(server.folder().unwrap().join("log"))
            .unwrap()
            .len()
    };
    let at = |mark: u64| usize::try_from(mark).unwrap();

    let start = at(mark());
    let rows = router.scatter(things()).rows().await.unwrap();
    let count: usize = rows.value.iter().map(|rows| rows.rows.len()).sum();
    assert_eq!(count, 1_024);
    eventually(LIMIT, async || sent(&server, start) == (4, 4)).await;

    let start = at(mark());
    let found = router
        .scatter(things())
        .aggregate(&[Aggregate::count()])
        .await
        .unwrap();
    assert_eq!(
        found.value,
        [maxscale_shard::scatter::Aggregated::Count(1_024)]
    );
    eventually(LIMIT, async || sent(&server, start) == (4, 4)).await;

    let start = at(mark());
    let mut merged = router.scatter(things()).merge(&by_id()).await.unwrap();
    let mut count = 0;
    while merged.next().await.unwrap().is_some() {
        count += 1;
    }
    assert_eq!(count, 1_024);
    // In transactions, whose begin and end are no statements of this kind.
    eventually(LIMIT, async || sent(&server, start) == (4, 4)).await;
}
