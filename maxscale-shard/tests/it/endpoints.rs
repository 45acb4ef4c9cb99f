//! The servers of a node, and what the connections to all of them share.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use maxscale_core::id::KeyspaceTag;
use maxscale_shard::fleet::NodeSpec;
use maxscale_shard::{
    Conn, Database, DatabaseOptions, Engine, Keyspace, NodeId, Role, Router, Topology, Vindex, sql,
};
use maxscale_tests::{Lateness, eventually};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::pool::CONNECTED;
use crate::support::{LIMIT, Nodes, SHARDS, options};

fn id(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

/// A router over `node-1`, `node-2` and so on.
fn router(entries: &[NodeSpec], options: DatabaseOptions) -> Router {
    let nodes = entries.iter().map(|entry| entry.id().clone());
    let map = Topology::even(nodes.collect(), SHARDS).unwrap();
    let keyspace = Keyspace::new(KeyspaceTag::default(), SHARDS, Vindex::Id).unwrap();
    Router::open(keyspace, map, entries, options).unwrap()
}

fn entries(urls: &[String]) -> Vec<NodeSpec> {
    let entries = (1..).zip(urls);
    entries
        .map(|(at, url)| NodeSpec::parse(url, at).unwrap())
        .collect()
}

fn databases(router: &Router) -> Vec<Database> {
    let nodes = router.nodes();
    nodes.iter().map(|node| node.database().clone()).collect()
}

async fn process(conn: &mut Conn) -> i64 {
    let pid = sql("SELECT pg_backend_pid()::bigint AS pid");
    conn.fetch_one(pid).await.unwrap().get("pid").unwrap()
}

/// How many sessions the databases of `nodes` have, but for the observer's.
async fn sessions(observer: &Database, nodes: &Nodes) -> i64 {
    let names = (nodes.urls.iter())
        .map(|url| url.rsplit('/').next().unwrap().split('?').next().unwrap())
        .collect::<Vec<_>>()
        .join(",");
    let others = sql("SELECT count(*) AS n FROM pg_stat_activity
         WHERE datname = ANY(string_to_array($1, ',')) AND pid <> pg_backend_pid()");
    let row = observer.fetch_optional(others.bind(names)).await.unwrap();
    row.unwrap().get("n").unwrap()
}

#[tokio::test]
async fn background_work_and_requests_do_not_take_each_others_connections() {
    let nodes = Nodes::fresh(Engine::Postgres, 1).await;
    let mut few = options();
    (few.connections, few.background) = (1, 1);
    few.acquire_timeout = CONNECTED;
    let router = router(&entries(&nodes.urls), few);
    let (requests, background) = (databases(&router).remove(0), router.nodes()[0].background());

    let held = requests.writer().await.unwrap();
    let mut work = background.writer().await.unwrap();
    process(&mut work).await;
    assert!(requests.writer().await.unwrap_err().is_unreachable());
    assert!(background.writer().await.unwrap_err().is_unreachable());
    drop(held);
    requests.writer().await.unwrap();
    assert!(background.writer().await.unwrap_err().is_unreachable());
}

#[tokio::test]
async fn connection_that_idles_gives_way_to_one_that_is_needed_elsewhere() {
    let nodes = Nodes::fresh(Engine::Postgres, 3).await;
    let observer = nodes.database().await;
    let mut tight = options();
    tight.budget = 2;
    let router = router(&entries(&nodes.urls), tight);
    let all = databases(&router);
    let first = process(&mut all[0].writer().await.unwrap()).await;
    let second = process(&mut all[1].writer().await.unwrap()).await;
    process(&mut all[2].writer().await.unwrap()).await;
    eventually(LIMIT, async || sessions(&observer, &nodes).await == 2).await;

    // What had idled longest went.
    assert_eq!(process(&mut all[1].writer().await.unwrap()).await, second);
    assert_ne!(process(&mut all[0].writer().await.unwrap()).await, first);
}

#[tokio::test]
async fn who_finds_all_connections_in_use_gets_the_first_that_comes_back_anywhere() {
    let nodes = Nodes::fresh(Engine::Postgres, 2).await;
    let mut tight = options();
    tight.budget = 1;
    let router = router(&entries(&nodes.urls), tight);
    let all = databases(&router);
    let mut held = all[0].writer().await.unwrap();
    process(&mut held).await;
    let mut waiting = Box::pin(all[1].writer());
    assert!(
        timeout(Duration::from_millis(50), &mut waiting)
            .await
            .is_err()
    );
    // Well, and of another database: it cannot be used, so it is closed.
    drop(held);
    process(&mut waiting.await.unwrap()).await;
}

#[tokio::test]
async fn who_finds_all_connections_in_use_waits_no_longer_than_for_one() {
    let nodes = Nodes::fresh(Engine::Postgres, 2).await;
    let mut tight = options();
    (tight.budget, tight.acquire_timeout) = (1, CONNECTED);
    let router = router(&entries(&nodes.urls), tight);
    let all = databases(&router);
    let _held = all[0].writer().await.unwrap();
    let (start, late) = (Instant::now(), Lateness::watch());
    assert!(all[1].writer().await.unwrap_err().is_unreachable());
    let took = start.elapsed();
    let most = CONNECTED * 2 + late.total();
    assert!((CONNECTED..most).contains(&took), "{took:?}, {late:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_tasks_on_many_databases_share_a_few_connections() {
    let nodes = Nodes::fresh(Engine::Postgres, 6).await;
    let observer = nodes.database().await;
    let mut tight = options();
    (tight.budget, tight.acquire_timeout) = (3, LIMIT);
    let router = router(&entries(&nodes.urls), tight);
    let (all, now) = (databases(&router), Arc::new(AtomicI64::new(0)));
    let mut tasks = JoinSet::new();
    for task in 0..24 {
        let (all, now) = (all.clone(), now.clone());
        tasks.spawn(async move {
            for turn in 0..10 {
                let mut conn = all[(task + turn) % all.len()].writer().await.unwrap();
                assert!(now.fetch_add(1, Ordering::SeqCst) < 3);
                process(&mut conn).await;
                now.fetch_sub(1, Ordering::SeqCst);
            }
        });
    }
    while let Some(done) = timeout(LIMIT, tasks.join_next()).await.unwrap() {
        done.unwrap();
    }
    // The server may not be done with one that was closed.
    eventually(LIMIT, async || sessions(&observer, &nodes).await <= 3).await;
}

#[tokio::test]
async fn replica_that_is_added_costs_the_primary_no_connection() {
    let nodes = Nodes::fresh(Engine::Postgres, 2).await;
    let mut listed = entries(&nodes.urls[..1]);
    let router = router(&listed, options());
    let before = process(&mut router.nodes()[0].database().reader().await.unwrap()).await;
    let replica = format!("node-1={}", nodes.urls[1]);
    NodeSpec::attach(&mut listed, &replica, 1).unwrap();
    let map = Topology::clone(&router.topology());
    router.reload(map, &listed).unwrap();

    let node = router.nodes()[0].clone();
    assert_eq!(node.endpoints().len(), 2);
    assert_eq!(
        process(&mut node.database().reader().await.unwrap()).await,
        before
    );
    assert_eq!(node.endpoints()[1].database().name(), "node-1#2");
    process(&mut node.endpoints()[1].database().reader().await.unwrap()).await;
}

#[test]
fn copy_in_another_region_than_the_primary_is_a_geo_replica() {
    let mut listed = vec![NodeSpec::parse("eu=postgres://u@a/d?region=eu-1", 1).unwrap()];
    for replica in ["eu-1", "us-1"] {
        let entry = format!("eu=postgres://u@{replica}/d?region={replica}");
        NodeSpec::attach(&mut listed, &entry, 1).unwrap();
    }
    NodeSpec::attach(&mut listed, "eu=postgres://u@nowhere/d", 3).unwrap();
    let nodes = router(&listed, options()).nodes();
    let node = nodes.first().unwrap();
    assert_eq!(*node.id(), id("eu"));
    let roles: Vec<Role> = (node.endpoints().iter())
        .map(|endpoint| node.role(endpoint))
        .collect();
    let expected = [
        Role::Primary,
        Role::Replica,
        Role::GeoReplica,
        Role::Replica,
    ];
    assert_eq!(roles, expected);
}
