//! What is refused before anybody is asked: nobody could be, here.

use maxscale_core::clock::Clock;
use maxscale_core::fact::VirtualShard;
use maxscale_core::id::{IdGenerator, KeyspaceTag};
use maxscale_core::refusal::{Class, Classify};
use maxscale_shard::scatter::{Aggregate, KeyType, ScatterError, ScatterLimits};
use maxscale_shard::{
    DatabaseOptions, Engine, Keyspace, Router, ShardError, Target, Topology, sql,
};

use super::fixture::{NODES, SHARDS, Thing, Things, by_id, ids, node_id, one_each, specs, things};

on_both!(
    key_with_a_node_of_its_own_is_read_there_and_nowhere_else,
    id_with_a_node_of_its_own_is_found_in_a_keyspace_of_text,
);

fn nowhere() -> Router {
    let urls: Vec<String> = (1..=NODES)
        .map(|at| format!("sqlite:/nowhere/{at}.db"))
        .collect();
    let nodes = (1..=NODES).map(node_id).collect();
    let map = Topology::even(nodes, SHARDS).unwrap();
    let keyspace = Keyspace::new(KeyspaceTag::default(), SHARDS, "md5".parse().unwrap()).unwrap();
    Router::open(keyspace, map, &specs(&urls), DatabaseOptions::default()).unwrap()
}

#[tokio::test]
async fn denying_router_refuses_every_kind_of_scatter() {
    let router = nowhere().deny_scatter();
    let refused = router.scatter(things()).rows().await.unwrap_err();
    assert!(matches!(refused, ScatterError::Denied));
    assert_eq!(refused.class(), Class::Internal);
    let refused = router.scatter(things()).merge(&by_id()).await.unwrap_err();
    assert!(matches!(refused, ScatterError::Denied));
    let refused = router
        .clone()
        .scatter(things())
        .aggregate(&[Aggregate::count()])
        .await;
    assert!(matches!(refused, Err(ScatterError::Denied)));
    assert!(router.shard("42").is_ok());
}

#[tokio::test]
async fn statement_that_cannot_be_scattered_is_refused() {
    let router = nowhere();
    for text in [
        "SELECT id FROM thing WHERE shard_id = $1",
        "SELECT id FROM thing WHERE shard_id = ANY($shards) ORDER BY name COLLATE \"de_DE\"",
        "DELETE FROM thing WHERE shard_id = ANY($shards)",
    ] {
        let refused = router.scatter(sql(text)).merge(&by_id()).await;
        assert!(matches!(refused, Err(ScatterError::Text { .. })), "{text}");
    }
}

#[tokio::test]
async fn more_nodes_than_may_be_asked_at_once_are_not_merged() {
    let mut limits = ScatterLimits::default();
    limits.legs = 3;
    let router = nowhere().scatter_limits(limits);
    let refused = router.scatter(things()).merge(&by_id()).await;
    assert!(matches!(
        refused,
        Err(ScatterError::TooManyLegs { legs: 4, most: 3 })
    ));
    // One after the other they are asked.
    let failed = router.scatter(things()).rows().await;
    assert!(matches!(failed, Err(ScatterError::Failed { .. })));
}

#[tokio::test]
async fn shard_outside_the_keyspace_is_refused() {
    let outside = VirtualShard::new(SHARDS);
    let refused = nowhere().scatter(things()).among([outside]).rows().await;
    let Err(ScatterError::Shard(ShardError::OutOfRange { .. })) = refused else {
        panic!("{refused:?}");
    };
}

#[tokio::test]
async fn keys_with_a_node_of_their_own_want_a_column() {
    let router = nowhere();
    let map = router
        .topology()
        .change()
        .divert("42", Target::Node(node_id(1)));
    let urls: Vec<String> = (1..=NODES)
        .map(|at| format!("sqlite:/nowhere/{at}.db"))
        .collect();
    router.reload(map.build().unwrap(), &specs(&urls)).unwrap();
    let refused = router.scatter(things()).rows().await;
    assert!(matches!(refused, Err(ScatterError::NoKeyColumn)));
    let refused = router
        .scatter(things())
        .key("no column", KeyType::Text)
        .rows()
        .await;
    assert!(matches!(refused, Err(ScatterError::Order(_))));
    // It lies on 25 of 64, on the second node, and whoever does not ask for that does not mind.
    let own = router.route("42").unwrap().virtual_shard().get();
    let others = (0..SHARDS).filter(|shard| *shard != own);
    let others = others.map(VirtualShard::new);
    let failed = router.scatter(things()).among(others).rows().await;
    assert!(matches!(failed, Err(ScatterError::Failed { .. })));
}

async fn key_with_a_node_of_its_own_is_read_there_and_nowhere_else(engine: Engine) {
    let things = Things::by(engine, "md5").await;
    let shard_of = |key: &str| things.router.route(key).unwrap().virtual_shard().get();
    // A neighbour on the virtual shard of the one that moves.
    let moved = "acme";
    let neighbour = (0..).map(|n: u32| format!("tenant-{n}"));
    let neighbour = neighbour
        .into_iter()
        .find(|key| shard_of(key) == shard_of(moved))
        .unwrap();
    let of = |id: u128, owner: Option<&str>| Thing {
        shard: shard_of(moved),
        id: 1_000 + id,
        n: Some(1),
        owner: owner.map(str::to_owned),
        ..Thing::default()
    };
    let mut rows = one_each();
    rows.extend([of(1, Some(moved)), of(2, Some(&neighbour)), of(3, None)]);
    things.fill(&rows).await;
    let home = things.router.route(moved).unwrap().node().id().clone();
    let target = (1..=NODES).find(|at| node_id(*at) != home).unwrap();
    // What moved, with one row more, and what an earlier move left there.
    let strays = [
        of(1, Some(moved)),
        of(4, Some(moved)),
        of(2, Some(&neighbour)),
        of(5, None),
    ];
    things.put(target - 1, &strays).await;
    let map = things.router.topology().change();
    let map = map.divert(moved, Target::Node(node_id(target)));
    things
        .router
        .reload(map.build().unwrap(), &specs(&things.nodes.urls))
        .unwrap();

    let asked = || {
        things
            .router
            .scatter(super::fixture::things())
            .key("owner", KeyType::Text)
    };
    let mut merged = asked().merge(&by_id()).await.unwrap();
    let mut found = Vec::new();
    while let Some(row) = merged.next().await.unwrap() {
        found.push(Thing::read(&row));
    }
    let wanted: Vec<u128> = (1..=64).chain([1_001, 1_002, 1_003, 1_004]).collect();
    assert_eq!(ids(&found), wanted);
    let count = asked().aggregate(&[Aggregate::count()]).await.unwrap();
    assert_eq!(
        count.value,
        [maxscale_shard::scatter::Aggregated::Count(68)]
    );
    // A row of the key is asked for by its own virtual shard.
    let own = VirtualShard::new(shard_of(moved));
    let rows = asked().among([own]).rows().await.unwrap();
    let rows = rows
        .value
        .iter()
        .flat_map(|rows| &rows.rows)
        .map(Thing::read);
    let mut found: Vec<u128> = rows
        .map(|thing| thing.id)
        .filter(|id| *id > 1_000)
        .collect();
    found.sort_unstable();
    assert_eq!(found, [1_001, 1_002, 1_003, 1_004]);
}

async fn id_with_a_node_of_its_own_is_found_in_a_keyspace_of_text(engine: Engine) {
    let things = Things::by(engine, "md5").await;
    let ids_of = IdGenerator::new(Clock::system(), KeyspaceTag::default());
    let id = ids_of.draw(VirtualShard::new(7));
    let row = Thing {
        shard: 7,
        id: 1_001,
        owner: Some(id.to_string()),
        ..Thing::default()
    };
    let mut rows = one_each();
    rows.push(row.clone());
    things.fill(&rows).await;
    let home = things.router.route(id).unwrap().node().id().clone();
    let target = (1..=NODES).find(|at| node_id(*at) != home).unwrap();
    // Beside the copy that was left behind.
    things
        .put(
            target - 1,
            &[
                Thing {
                    id: 1_002,
                    ..row.clone()
                },
                row,
            ],
        )
        .await;
    let map = things.router.topology().change();
    let map = map.divert(id, Target::Node(node_id(target)));
    let specs = specs(&things.nodes.urls);
    things.router.reload(map.build().unwrap(), &specs).unwrap();

    let asked = things.router.scatter(super::fixture::things());
    let mut merged = asked
        .key("owner", KeyType::Text)
        .merge(&by_id())
        .await
        .unwrap();
    let mut found = Vec::new();
    while let Some(row) = merged.next().await.unwrap() {
        found.push(Thing::read(&row));
    }
    let wanted: Vec<u128> = (1..=64).chain([1_001, 1_002]).collect();
    assert_eq!(ids(&found), wanted);
}
