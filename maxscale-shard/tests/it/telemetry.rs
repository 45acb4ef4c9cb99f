//! What a fleet and a router tell of themselves.

use maxscale_core::fact::VirtualShard;
use maxscale_core::id::KeyspaceTag;
use maxscale_core::telemetry::Metrics;
use maxscale_shard::fleet::NodeSpec;
use maxscale_shard::telemetry::{LoadOptions, Telemetry};
use maxscale_shard::{
    DatabaseOptions, Engine, Fleet, Keyspace, NodeId, Router, ShardError, Topology, Vindex, sql,
};
use maxscale_tests::eventually;

use crate::pool::CONNECTED;
use crate::support::{LIMIT, Nodes, note, open};

on_both!(
    operations_are_timed_by_node_and_outcome,
    transactions_are_timed_by_how_they_end,
    connections_are_counted_while_they_are_used,
);

/// A fleet of two nodes, and where it tells of itself.
async fn measured(engine: Engine) -> (Nodes, Fleet, Metrics) {
    let (nodes, metrics) = (Nodes::fresh(engine, 2).await, Metrics::new());
    let telemetry = Telemetry::new().meter(&metrics.meter("test"));
    let fleet = open(nodes.config().telemetry(telemetry)).await;
    (nodes, fleet, metrics)
}

/// The value of the series `name` whose labels are among others all of `labels`.
fn value(metrics: &Metrics, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let page = metrics.exposition().unwrap();
    let wanted: Vec<String> = (labels.iter())
        .map(|(key, value)| format!("{key}=\"{value}\""))
        .collect();
    let line = page.lines().find(|line| {
        let named = line.split(['{', ' ']).next() == Some(name);
        named && wanted.iter().all(|label| line.contains(label))
    });
    line.map(|line| line.rsplit(' ').next().unwrap().parse().unwrap())
}

fn count(metrics: &Metrics, name: &str, labels: &[(&str, &str)]) -> f64 {
    value(metrics, name, labels).unwrap_or(0.0)
}

async fn operations_are_timed_by_node_and_outcome(engine: Engine) {
    let (_nodes, fleet, metrics) = measured(engine).await;
    let operations = "db_client_operation_duration_seconds_count";
    let system = match engine {
        Engine::Postgres => "postgresql",
        Engine::Sqlite => "sqlite",
    };
    let statements = |node| {
        let labels = [
            ("db_system_name", system),
            ("maxscale_node", node),
            ("db_operation_name", "statement"),
        ];
        count(&metrics, operations, &labels)
    };
    let first = fleet.router().virtual_shard(VirtualShard::new(0)).unwrap();
    let mut n = 0;
    // The fleet's own late looks at its nodes, on a busy machine, are counted too.
    eventually(LIMIT, async || {
        n += 1;
        let before = [statements("node-1"), statements("node-2")];
        first.execute(note(n, 1)).await.unwrap();
        first.fetch_all(sql("SELECT n FROM note")).await.unwrap();
        let after = [statements("node-1"), statements("node-2")];
        let counted = [after[0] - before[0], after[1] - before[1]];
        if counted == [2.0, 0.0] {
            Ok(())
        } else {
            Err(counted)
        }
    })
    .await;

    first.execute(note(1, 1)).await.unwrap_err();
    first.execute(sql("no statement")).await.unwrap_err();
    for error in ["unique", "refused"] {
        let labels = [("maxscale_node", "node-1"), ("error_type", error)];
        assert_eq!(count(&metrics, operations, &labels), 1.0, "{error}");
    }
    let waits = "db_client_connection_wait_time_seconds_count";
    let pool = [("db_client_connection_pool_name", "node-1")];
    assert!(count(&metrics, waits, &pool) >= 3.0);
}

async fn transactions_are_timed_by_how_they_end(engine: Engine) {
    let (_nodes, fleet, metrics) = measured(engine).await;
    let shard = fleet.router().virtual_shard(VirtualShard::new(0)).unwrap();
    let ended = |outcome| {
        let labels = [("maxscale_node", "node-1"), ("outcome", outcome)];
        let name = "maxscale_shard_transaction_duration_seconds_count";
        count(&metrics, name, &labels)
    };
    let before = ["committed", "rolled_back", "dropped", "aborted"].map(ended);

    let mut tx = shard.begin().await.unwrap();
    tx.execute(note(1, 1)).await.unwrap();
    tx.commit().await.unwrap();
    shard.begin().await.unwrap().rollback().await.unwrap();
    drop(shard.begin().await.unwrap());
    let mut tx = shard.begin().await.unwrap();
    tx.execute(note(1, 1)).await.unwrap_err();
    let aborted = tx.commit().await.unwrap_err();
    assert!(matches!(aborted, ShardError::Aborted { .. }));

    let after = ["committed", "rolled_back", "dropped", "aborted"].map(ended);
    for (before, after) in before.into_iter().zip(after) {
        assert_eq!(after - before, 1.0);
    }
}

async fn connections_are_counted_while_they_are_used(engine: Engine) {
    let (_nodes, fleet, metrics) = measured(engine).await;
    let database = fleet.router().nodes()[0].database().clone();
    let (most, others) = match engine {
        Engine::Postgres => (4.0, "node-1/background"),
        Engine::Sqlite => (1.0, "node-1/readers"),
    };
    let used = |pool| {
        let labels = [
            ("db_client_connection_pool_name", pool),
            ("db_client_connection_state", "used"),
        ];
        value(&metrics, "db_client_connections", &labels)
    };
    let max = [("db_client_connection_pool_name", "node-1")];
    assert_eq!(
        value(&metrics, "db_client_connection_max", &max),
        Some(most)
    );
    let held = database.writer().await.unwrap();
    assert_eq!((used("node-1"), used(others)), (Some(1.0), Some(0.0)));
    drop(held);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_not_had_in_time_are_counted() {
    let nodes = Nodes::fresh(Engine::Postgres, 1).await;
    let metrics = Metrics::new();
    let mut options = DatabaseOptions::default();
    options.connections = 1;
    options.acquire_timeout = CONNECTED;
    let telemetry = Telemetry::new().meter(&metrics.meter("test"));
    let router = one(&nodes, options, &telemetry);
    let database = router.nodes()[0].database().clone();
    let _held = database.writer().await.unwrap();
    database.writer().await.unwrap_err();
    let pool = [("db_client_connection_pool_name", "node-1")];
    let timeouts = "db_client_connection_timeouts_total";
    assert_eq!(value(&metrics, timeouts, &pool), Some(1.0));

    // What a scrape reads ends with the database, as connections do.
    drop((router, database, _held));
    let max = value(&metrics, "db_client_connection_max", &pool);
    assert_eq!(max, None);
}

/// A router over one node, whose keys are text.
fn one(nodes: &Nodes, options: DatabaseOptions, telemetry: &Telemetry) -> Router {
    let node = NodeId::new("node-1").unwrap();
    let keyspace = Keyspace::new(KeyspaceTag::default(), 16, Vindex::Md5).unwrap();
    let map = Topology::even(vec![node], 16).unwrap();
    let entry = NodeSpec::parse(&nodes.urls[0], 1).unwrap();
    Router::open_with(keyspace, map, &[entry], options, telemetry).unwrap()
}

#[tokio::test]
async fn router_tells_its_load_where_that_was_asked_for() {
    let nodes = Nodes::fresh(Engine::Sqlite, 1).await;
    let options = DatabaseOptions::default();
    assert!(one(&nodes, options, &Telemetry::new()).load().is_none());

    let telemetry = Telemetry::new().load(LoadOptions::new().sampled(1));
    let router = one(&nodes, options, &telemetry);
    let load = router.load().unwrap();
    for _ in 0..3 {
        router.shard("42").unwrap();
    }
    router.route("43").unwrap();
    router.shard("").unwrap_err();
    assert_eq!(load.of(VirtualShard::new(9)), Some(3));
    assert_eq!(load.shards().iter().sum::<u64>(), 4);
    let hottest = load.hottest(9);
    assert_eq!(hottest.len(), 2);
    assert_eq!(hottest[0].hash, load.hash("42"));
    assert_eq!((hottest[0].shard.get(), hottest[0].requests), (9, 3));
}
