//! What dead processes left half-way is ended in the background.

use std::sync::Arc;
use std::time::Duration;

use maxscale_core::id::{Id, KeyspaceTag};
use maxscale_core::keys::{KeyRing, Secret};
use maxscale_core::telemetry::Metrics;
use maxscale_shard::fleet::NodeSpec;
use maxscale_shard::saga::{Phase, Saga, Sagas};
use maxscale_shard::{
    Claims, Engine, Key, Keyspace, Recovery, Router, Topology, Vindex, Work, sql,
};
use maxscale_tests::eventually;
use tokio::runtime::Handle;

use crate::killed::{kill_self, order, was_killed};
use crate::saga::purses::{Bench, Gift, PURSES, START, back, sagas, take};
use crate::support::{LIMIT, SHARDS, config, open, options};

on_both!(
    saga_whose_driver_was_killed_between_two_steps_is_ended,
    claim_that_was_left_is_freed_and_counted,
);

const SOON: Duration = Duration::from_millis(50);
const ORDER: &str = "MAXSCALE_TEST_RECOVERY";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the process that is killed; started by the tests of this module"]
async fn worker() {
    // Run by name with the other long ones, it has nothing to do.
    let Some(order) = order(ORDER) else { return };
    let (id, from, first, second): (String, String, String, String) =
        serde_json::from_str(&order).unwrap();
    let fleet = open(config(&[&first, &second]).migrations(PURSES)).await;
    let (id, from): (Id, Id) = (id.parse().unwrap(), from.parse().unwrap());
    let dies = Saga::new("gift")
        .step("take", |gift: &Gift| Key::from(gift.from), take, back)
        .last(
            "give",
            |gift| Key::from(gift.to),
            |_, _| Work::new(async { kill_self() }),
        );
    let sagas = Sagas::new(fleet.router().clone()).with(&dies);
    let shard = fleet.router().shard(from).unwrap();
    // Nobody is held up for so long that he loses it.
    let lease = Duration::from_secs(3);
    sagas.lease(lease).run(&shard, id).await.unwrap();
}

async fn saga_whose_driver_was_killed_between_two_steps_is_ended(engine: Engine) {
    let bench = Bench::new(engine).await;
    let gift = bench.gift(30);
    bench.begin(&gift).await;
    let [first, second] = [0, 1].map(|at: usize| bench.nodes.urls[at].clone());
    let order = (gift.id.to_string(), gift.from.to_string(), first, second);
    let order = serde_json::to_string(&order).unwrap();
    assert!(was_killed("recovery::worker", (ORDER, order)).await);
    assert_eq!(bench.held(&gift).await, (START - 30, START));

    let sagas = sagas(&bench.fleet);
    let recovering = Recovery::new(bench.fleet.router().clone())
        .sagas(sagas.clone())
        .every(SOON)
        .start();

    let home = bench.home(&gift);
    let ended = async || sagas.phase(&home, gift.id).await.unwrap() == Phase::Done;
    eventually(LIMIT, ended).await;
    assert_eq!(bench.held(&gift).await, (START - 30, START + 30));
    recovering.shutdown(LIMIT).await;
}

async fn claim_that_was_left_is_freed_and_counted(engine: Engine) {
    let bench = Bench::new(engine).await;
    let router = bench.fleet.router();
    let keys = KeyRing::new(1, Secret::new([1; 32])).unwrap();
    let claims = Claims::new(router.clone(), Arc::new(keys), "handle").lease(Duration::ZERO);
    let _left = claims.reserve("ada", bench.users[0]).await.unwrap();
    let metrics = Metrics::new();

    let recovering = Recovery::new(router.clone())
        .claims(claims)
        .every(SOON)
        .meter(&metrics.meter("test"))
        .start();

    eventually(LIMIT, async || {
        let mut left = 0;
        for node in router.nodes().iter() {
            let claims = sql("SELECT 1 FROM ms_claim");
            left += node.database().fetch_all(claims).await.unwrap().len();
        }
        left == 0
    })
    .await;
    // The pass after the one that found it finds nothing.
    eventually(LIMIT, async || {
        let page = metrics.exposition().unwrap();
        let now = r#"maxscale_shard_claims_dangling{kind="handle"} 0"#;
        page.contains("outcome=\"freed\"} 1") && page.contains(now)
    })
    .await;
    recovering.shutdown(LIMIT).await;
    let page = metrics.exposition().unwrap();
    for line in [
        r#"maxscale_shard_claims_ended_total{kind="handle",outcome="freed"} 1"#,
        r#"maxscale_shard_recovery_passes_total{kind="claims",outcome="partial"} 0"#,
    ] {
        assert!(page.contains(line), "{page}");
    }
    let none = r#"maxscale_shard_recovery_passes_total{kind="claims",outcome="whole"} 0"#;
    assert!(!page.contains(none), "{page}");
}

#[tokio::test]
async fn nobody_looks_any_more_after_the_end() {
    let nodes = [NodeSpec::parse("sqlite:/nowhere/1.db", 1).unwrap()];
    let map = Topology::even(vec![nodes[0].id().clone()], SHARDS).unwrap();
    let keyspace = Keyspace::new(KeyspaceTag::default(), SHARDS, Vindex::Id).unwrap();
    let router = Router::open(keyspace, map, &nodes, options()).unwrap();
    let recovery = Recovery::new(router.clone()).sagas(Sagas::new(router));
    let tasks = || Handle::current().metrics().num_alive_tasks();

    let recovering = recovery.clone().start();
    assert_eq!(tasks(), 1);
    recovering.shutdown(LIMIT).await;
    assert_eq!(tasks(), 0);

    drop(recovery.start());
    eventually(LIMIT, async || tasks() == 0).await;
}
