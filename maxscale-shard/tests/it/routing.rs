//! A router over a map from code: what it answers, and how the map is swapped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use maxscale_core::clock::Clock;
use maxscale_core::fact::{RegionId, VirtualShard};
use maxscale_core::id::{Id, IdGenerator, KeyspaceTag};
use maxscale_core::refusal::{Class, Classify};
use maxscale_shard::fleet::NodeSpec;
use maxscale_shard::{
    Database, DatabaseOptions, Engine, Epoch, Key, Keyspace, NodeId, ReloadError, Router,
    ShardError, SlotMove, SlotState, Target, Topology, TopologyError, Why, sql,
};

use tokio::time::Instant;

use crate::support::{LIMIT, Nodes};

fn node(number: usize) -> NodeId {
    NodeId::new(&format!("node-{number}")).unwrap()
}

fn keyspace(vindex: &str) -> Keyspace {
    Keyspace::new(KeyspaceTag::default(), 16, vindex.parse().unwrap()).unwrap()
}

/// Nobody connects to these.
fn entries(count: usize) -> Vec<NodeSpec> {
    (1..=count)
        .map(|at| NodeSpec::parse(&format!("sqlite:/nowhere/{at}.db"), at).unwrap())
        .collect()
}

/// The virtual shards 0 to 7 on `node-1`, the others on `node-2`.
fn map() -> Topology {
    Topology::even(vec![node(1), node(2)], 16).unwrap()
}

fn router(vindex: &str, map: Topology) -> Router {
    let options = DatabaseOptions::default();
    Router::open(keyspace(vindex), map, &entries(2), options).unwrap()
}

fn id(shard: u32) -> Id {
    let ids = IdGenerator::new(Clock::system(), KeyspaceTag::default());
    ids.draw(VirtualShard::new(shard))
}

/// Virtual shard, node, epoch and reason.
fn told<'k>(router: &Router, key: impl Into<Key<'k>>) -> (u32, String, u64, Why) {
    let route = router.route(key).unwrap();
    let node = route.node().id().to_string();
    (
        route.virtual_shard().get(),
        node,
        route.epoch().get(),
        route.why(),
    )
}

#[tokio::test]
async fn key_is_found_by_its_bits_or_by_the_vindex() {
    let router = router("md5", map());
    assert_eq!(told(&router, id(9)), (9, "node-2".into(), 1, Why::Id));
    // 217 of 1024 is 9 of 16.
    assert_eq!(told(&router, "42"), (9, "node-2".into(), 1, Why::Vindex));
    assert_eq!(told(&router, 42), told(&router, "42"));
    let shard = router.shard("42").unwrap();
    assert_eq!(
        (shard.id().get(), shard.node().id().as_str()),
        (9, "node-2")
    );
}

#[tokio::test]
async fn override_wins_over_bits_and_vindex() {
    let (tenant, other) = (id(9), id(9));
    let diverted = map()
        .change()
        .divert(tenant, Target::Shard(VirtualShard::new(2)))
        .divert("42", Target::Node(node(1)));
    let router = router("md5", diverted.build().unwrap());
    let moved = (2, "node-1".to_owned(), 2, Why::OverrideShard);
    assert_eq!(told(&router, tenant), moved);
    // Rows of this one keep their shard_id.
    assert_eq!(
        told(&router, 42),
        (9, "node-1".into(), 2, Why::OverrideNode)
    );
    assert_eq!(told(&router, other), (9, "node-2".into(), 2, Why::Id));
    assert_eq!(told(&router, "43").3, Why::Vindex);
}

#[tokio::test]
async fn override_of_an_id_holds_for_every_form_of_it() {
    let tenant = id(9);
    let to = Target::Shard(VirtualShard::new(2));
    let router = router("id", map().change().divert(tenant, to).build().unwrap());
    let text = tenant.to_string();
    let eu = RegionId::new("eu").unwrap();
    for key in [
        tenant.into(),
        tenant.as_uuid().into(),
        Key::from(&text),
        Key::from(&*text.to_uppercase()),
        Key::from(&text).within(&eu),
    ] {
        assert_eq!(told(&router, key).0, 2, "{key:?}");
    }
}

#[tokio::test]
async fn override_in_one_region_leaves_the_same_key_in_another() {
    let (eu, us) = (RegionId::new("eu").unwrap(), RegionId::new("us").unwrap());
    let acme = Key::from("acme");
    let vindex = "region:eu=0+8,us=8+8";
    let plain = router(vindex, map());
    let before = told(&plain, acme.within(&us));
    let own = told(&plain, acme.within(&eu)).0;
    let there = VirtualShard::new((own + 1) % 8);
    let diverted = map()
        .change()
        .divert(acme.within(&eu), Target::Shard(there));
    let router = router(vindex, diverted.build().unwrap());
    assert_eq!(told(&router, acme.within(&eu)).0, there.get());
    assert_eq!(told(&router, acme.within(&us)).0, before.0);
}

#[tokio::test]
async fn frozen_shard_is_refused_and_its_route_still_told() {
    let nine = VirtualShard::new(9);
    let frozen = map().change().state(9..10, SlotState::Frozen);
    let router = router("id", frozen.build().unwrap());
    let refused = router.shard(id(9)).unwrap_err();
    assert!(matches!(refused, ShardError::Frozen { shard, .. } if shard == nine));
    assert_eq!(refused.class(), Class::Unavailable);
    assert!(router.virtual_shard(nine).is_err());
    assert_eq!(router.route(id(9)).unwrap().state(), SlotState::Frozen);
    assert!(router.shard(id(8)).is_ok());
    // A tenant that lies elsewhere is not concerned.
    let tenant = id(9);
    let away = router
        .topology()
        .change()
        .divert(tenant, Target::Node(node(1)));
    router.reload(away.build().unwrap(), &entries(2)).unwrap();
    assert!(router.shard(tenant).is_ok());
}

#[tokio::test]
async fn explanation_tells_an_operator_where_and_why() {
    let router = router("md5", map());
    let explained = router.explain("42").unwrap();
    assert_eq!(
        explained.to_string(),
        "virtual shard 9\n\
         node          node-2, ready\n\
         because       the vindex md5 gives it\n\
         state         serving\n\
         map           epoch 1 of the keyspace 0 of 16 virtual shards by md5"
    );
    let because = |to| {
        let map = router.topology().change().restore(42).divert(42, to);
        router.reload(map.build().unwrap(), &entries(2)).unwrap();
        let told = router.explain("42").unwrap().to_string();
        told.lines().nth(2).unwrap().to_owned()
    };
    assert_eq!(
        because(Target::Shard(VirtualShard::new(1))),
        "because       an override says so, in place of 9"
    );
    assert_eq!(
        because(Target::Node(node(1))),
        "because       an override names the node, in place of node-2"
    );
    let told = router.explain(id(3)).unwrap().to_string();
    assert!(told.contains("because       the id carries it\n"), "{told}");
}

#[tokio::test]
async fn map_that_does_not_belong_here_is_refused_and_the_old_one_stays() {
    let router = router("id", map().change().epoch(Epoch::new(5)).build().unwrap());
    let before = router.topology();
    let reload = |map: Topology, known| router.reload(map, &entries(known)).unwrap_err();
    let other_count = Topology::even(vec![node(1)], 8).unwrap();
    assert!(matches!(
        reload(other_count, 2),
        ReloadError::Topology(TopologyError::OtherCount { .. })
    ));
    assert!(matches!(reload(map(), 2), ReloadError::Stale { .. }));
    // Another map of the same epoch: one of the two is a lie.
    let to = SlotMove {
        shard: VirtualShard::new(0),
        from: node(1),
        to: node(2),
    };
    let same_epoch = before
        .change()
        .apply([&to])
        .epoch(before.epoch())
        .build()
        .unwrap();
    assert!(matches!(reload(same_epoch, 2), ReloadError::Stale { .. }));
    let third = before.change().list(node(3)).build().unwrap();
    assert!(matches!(reload(third, 2), ReloadError::NoEntry(id) if id == node(3)));
    assert_eq!(router.topology(), before);
    assert!(matches!(
        Router::open(
            keyspace("id"),
            map(),
            &entries(1),
            DatabaseOptions::default()
        ),
        Err(ReloadError::NoEntry(_))
    ));
}

#[tokio::test]
async fn clone_follows_the_map_and_a_shard_in_use_stays_on_its_own() {
    let router = router("id", map());
    let (clone, tenant) = (router.clone(), id(9));
    let held = clone.shard(tenant).unwrap();
    let moved = SlotMove {
        shard: VirtualShard::new(9),
        from: node(2),
        to: node(1),
    };
    let next = router.topology().change().apply([&moved]).build().unwrap();
    router.reload(next, &entries(2)).unwrap();
    assert_eq!(told(&clone, tenant), (9, "node-1".into(), 2, Why::Id));
    assert_eq!((held.node().id(), held.epoch()), (&node(2), Epoch::FIRST));
}

/// One connection per node: whoever asks again asks by the same.
fn one() -> DatabaseOptions {
    let mut options = DatabaseOptions::default();
    options.connections = 1;
    options
}

/// The server's process behind a node's one connection.
async fn backend(database: &Database) -> i64 {
    let asked = sql("SELECT CAST(pg_backend_pid() AS bigint) AS pid");
    let rows = database.fetch_all(asked).await.unwrap();
    rows[0].get("pid").unwrap()
}

#[tokio::test]
async fn reload_keeps_the_connections_of_unchanged_nodes() {
    let servers = Nodes::fresh(Engine::Postgres, 3).await;
    let entry = |at: usize, url: &str| NodeSpec::parse(url, at).unwrap();
    let listed = |urls: [&str; 2]| vec![entry(1, urls[0]), entry(2, urls[1])];
    let urls: Vec<&str> = servers.urls.iter().map(String::as_str).collect();
    let router = Router::open(keyspace("id"), map(), &listed([urls[0], urls[1]]), one());
    let router = router.unwrap();
    let old = router.nodes();
    let before = [
        backend(old[0].database()).await,
        backend(old[1].database()).await,
    ];

    // The map of the same epoch, and node-2 at another address.
    router.reload(map(), &listed([urls[0], urls[2]])).unwrap();
    let new = router.nodes();
    let name = sql("SELECT current_database() AS name");
    let name = new[1].database().fetch_all(name).await.unwrap();
    assert!(urls[2].contains(&name[0].get::<String>("name").unwrap()));
    assert_eq!(backend(new[0].database()).await, before[0]);
    // Who still holds the old one can finish.
    assert_eq!(backend(old[1].database()).await, before[1]);
}

#[tokio::test]
async fn connections_of_a_node_that_left_end_with_its_last_user() {
    let servers = Nodes::fresh(Engine::Postgres, 2).await;
    let entries: Vec<NodeSpec> = (1..)
        .zip(&servers.urls)
        .map(|(at, url)| NodeSpec::parse(url, at).unwrap())
        .collect();
    let router = Router::open(keyspace("id"), map(), &entries, one()).unwrap();
    let held = router.shard(id(9)).unwrap();
    let pid = backend(held.node().database()).await;
    let map = router.topology();
    let next = map
        .change()
        .apply(&map.plan(&[node(1)]).unwrap())
        .unlist(&node(2));
    router.reload(next.build().unwrap(), &entries[..1]).unwrap();
    assert_eq!(backend(held.node().database()).await, pid);
    drop(held);
    let left = sql("SELECT count(*) AS n FROM pg_stat_activity WHERE pid = $1");
    maxscale_tests::eventually(LIMIT, async || {
        let database = router.nodes()[0].database().clone();
        let rows = database.fetch_all(left.clone().bind(pid)).await.unwrap();
        rows[0].get::<i64>("n").unwrap() == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_during_reloads_are_each_of_one_map() {
    let router = router("id", map());
    let tenant = id(9);
    let (done, maps) = (
        Arc::new(AtomicBool::new(false)),
        Arc::<AtomicU64>::default(),
    );
    let reader = {
        let (router, done, maps) = (router.clone(), done.clone(), maps.clone());
        tokio::task::spawn_blocking(move || {
            let mut last = 0;
            while !done.load(Ordering::Relaxed) {
                let (shard, node, epoch, _) = told(&router, tenant);
                // Odd epochs say node-2, even ones node-1; time does not run backwards.
                let expected = if epoch % 2 == 0 { "node-1" } else { "node-2" };
                assert_eq!((shard, node.as_str()), (9, expected), "epoch {epoch}");
                assert!(epoch >= last);
                maps.fetch_add(u64::from(epoch != last), Ordering::Relaxed);
                last = epoch;
            }
        })
    };
    let (end, seen) = (Instant::now() + LIMIT, || maps.load(Ordering::Relaxed));
    // Until the reader has come to see some of them.
    for round in (0_usize..).take_while(|n| *n < 2_000 || (seen() <= 1 && Instant::now() < end)) {
        let (from, to) = if round % 2 == 0 { (2, 1) } else { (1, 2) };
        let step = SlotMove {
            shard: VirtualShard::new(9),
            from: node(from),
            to: node(to),
        };
        let next = router.topology().change().apply([&step]).build().unwrap();
        router.reload(next, &entries(2)).unwrap();
    }
    done.store(true, Ordering::Relaxed);
    reader.await.unwrap();
    assert!(seen() > 1);
}
