//! Many rows, which are more than anybody wants in memory.

use std::fs;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use maxscale_shard::scatter::{KeyType, OrderBy, OrderKey};
use maxscale_shard::{Database, DatabaseOptions, Row, Statement, Topology, sql};
use maxscale_tests::PostgresServer;
use sqlx::Row as _;
use tokio::time::Instant;
use uuid::Uuid;

use super::fixture::{NODES, SHARDS, specs};

/// With nulls and ties in all columns but the last one of the order.
const FILL: &str = "INSERT INTO thing (shard_id, id, n, name)
    SELECT i % 64, md5(i::text)::uuid,
        CASE WHEN i % 10 <> 0 THEN hashint4(i::integer) % 1000 END,
        CASE WHEN i % 7 <> 0 THEN substr(md5((i / 3)::text), 1, 2) END
    FROM generate_series(1, $1) AS i WHERE i % 64 / 16 BETWEEN $2 AND $3";
const ORDERED: &str = "SELECT id, n, name FROM thing
    ORDER BY n DESC NULLS LAST, name COLLATE \"C\" NULLS FIRST, id";
const LIMIT: Duration = Duration::from_secs(900);

fn order() -> OrderBy {
    OrderBy::new([
        OrderKey::desc("n", KeyType::I64).nulls_last(),
        OrderKey::asc("name", KeyType::Text).nulls_first(),
        OrderKey::asc("id", KeyType::Uuid),
    ])
    .unwrap()
}

fn asked() -> Statement {
    sql("SELECT id, n, name FROM thing WHERE shard_id = ANY($shards)")
}

/// A line of `/proc/self/status`, in KiB.
fn memory(line: &str) -> i64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let found = status
        .lines()
        .find_map(|text| text.strip_prefix(line))
        .unwrap();
    found
        .trim_matches([':', ' ', '\t', 'k', 'B'])
        .parse()
        .unwrap()
}

/// The rows of the nodes `from` to `to`.
async fn fill(database: &Database, rows: i64, from: usize, to: usize) {
    let table = "CREATE UNLOGGED TABLE thing (shard_id integer NOT NULL, id uuid NOT NULL,
        n bigint, name text)";
    database.execute(sql(table)).await.unwrap();
    let [from, to] = [from, to].map(|at| i64::try_from(at).unwrap());
    let filled = sql(FILL).bind(rows).bind(from).bind(to);
    database.execute(filled).await.unwrap();
}

/// Merges that many rows and compares each with what one database says.
async fn compare(rows: i64) -> String {
    let server = PostgresServer::start().await;
    let mut databases = Vec::new();
    for _ in 0..=NODES {
        databases.push(server.database().await);
    }
    let urls: Vec<String> = databases
        .iter()
        .map(maxscale_tests::Database::url)
        .collect();
    let mut options = DatabaseOptions::default();
    options.statement_timeout = Duration::ZERO;
    let one = Database::open("one", &urls[NODES], &options).unwrap();
    fill(&one, rows, 0, NODES - 1).await;
    let specs = specs(&urls[..NODES]);
    let ids = specs.iter().map(|spec| spec.id().clone()).collect();
    let map = Topology::even(ids, SHARDS).unwrap();
    let keyspace = maxscale_shard::Keyspace::new(Default::default(), SHARDS, Default::default());
    let router = maxscale_shard::Router::open(keyspace.unwrap(), map, &specs, options).unwrap();
    for (at, node) in router.nodes().iter().enumerate() {
        fill(node.database(), rows, at, at).await;
    }

    let mut conn = one.reader().await.unwrap();
    let mut wanted = sqlx::query(ORDERED).fetch(conn.as_postgres().unwrap());
    // What sorts first must not be what the merge waits for.
    let mut next = wanted.try_next().await.unwrap();
    let before = memory("VmRSS");
    fs::write("/proc/self/clear_refs", "5").unwrap();
    let start = Instant::now();
    let mut merged = router
        .scatter(asked())
        .limit(LIMIT)
        .merge(&order())
        .await
        .unwrap();
    let mut count = 0;
    while let Some(row) = merged.next().await.unwrap() {
        let wanted_row = next.expect("there are no more than in the one database");
        assert_eq!(values(&row), wanted_values(&wanted_row), "row {count}");
        count += 1;
        next = wanted.try_next().await.unwrap();
    }
    assert!(next.is_none() && count == rows);
    let (took, more) = (start.elapsed(), memory("VmHWM") - before);
    assert!(more <= 64 * 1024, "{more} KiB more");
    format!("{rows} rows in {took:?}, the comparison included; {more} KiB more in memory")
}

type Values = (Uuid, Option<i64>, Option<String>);

fn values(row: &Row) -> Values {
    let get = (row.get("id"), row.get("n"), row.get("name"));
    (get.0.unwrap(), get.1.unwrap(), get.2.unwrap())
}

fn wanted_values(row: &sqlx::postgres::PgRow) -> Values {
    (row.get("id"), row.get("n"), row.get("name"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_64_virtual_shards_merge_as_one_database_orders_them() {
    compare(100_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "ten million rows take minutes; the same with fewer runs always"]
async fn ten_million_rows_merge_as_one_database_orders_them() {
    println!("{}", compare(10_000_000).await);
}
