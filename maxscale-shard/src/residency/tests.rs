use maxscale_core::clock::Clock;
use maxscale_core::id::{IdGenerator, KeyspaceTag};
use proptest::prelude::*;

use super::*;
use crate::keyspace::Keyspace;
use crate::topology::{Instead, Target, Topology};

const SHARDS: u32 = 16;

fn region(name: &str) -> RegionId {
    RegionId::new(name).unwrap()
}

/// Where servers stand; `?` is nowhere that is known.
fn stand(names: &str) -> Stand {
    names.split_whitespace().map(RegionId::new).collect()
}

fn node(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

/// `eu` owns 0 to 7, `us` 8 to 15.
fn keyspace(vindex: &str) -> Keyspace {
    Keyspace::new(KeyspaceTag::default(), SHARDS, vindex.parse().unwrap()).unwrap()
}

const HOMES: &str = "region:eu=0+8,us=8+8";

fn europe() -> Residency {
    Residency::new().pin_home(region("eu"), [region("eu-1"), region("eu-2")])
}

fn map(eu: u32) -> Topology {
    let (a, b) = (node("a"), node("b"));
    Topology::builder([a.clone(), b.clone()], SHARDS)
        .assign(0..eu, &a)
        .assign(eu..SHARDS, &b)
        .build()
        .unwrap()
}

fn verdict(residency: &Residency, map: &Topology, stands: &[Stand]) -> Verdict {
    let keyspace = keyspace(HOMES);
    // The pins are checked where all of it is well.
    let whole = [stand("eu-1"), stand("us-1"), stand("eu-2")];
    let bound = Bound::new(residency, &keyspace, &whole).unwrap();
    Verdict::new(Arc::new(bound), &keyspace, map, stands.to_vec())
}

fn asked(shard: u32, node: u16) -> Asked<'static> {
    Asked {
        shard: VirtualShard::new(shard),
        node,
        key: None,
        tables: &[],
    }
}

#[test]
fn node_is_inside_only_if_each_of_its_servers_is() {
    for (servers, inside) in [
        ("eu-1", true),
        ("eu-1 eu-2", true),
        ("eu-1 us-1", false),
        ("us-1 eu-1", false),
        ("eu-1 ?", false),
        ("?", false),
    ] {
        let verdict = verdict(&europe(), &map(8), &[stand(servers), stand("us-1")]);
        let broken = (0..SHARDS).filter(|shard| {
            let node = u16::from(*shard >= 8);
            verdict.breaks(&asked(*shard, node)).is_some()
        });
        let expected = if inside { 0..0 } else { 0..8 };
        assert_eq!(
            broken.collect::<Vec<_>>(),
            expected.collect::<Vec<_>>(),
            "{servers}"
        );
    }
}

#[test]
fn what_is_told_names_node_pin_and_where_the_foreign_server_stands() {
    let (map, stands) = (map(6), [stand("eu-1"), stand("eu-2 us-1")]);
    let verdict = verdict(&europe(), &map, &stands);
    let pin = verdict.breaks(&asked(7, 1)).unwrap();
    let outside = verdict.tell(pin, VirtualShard::new(7), 1, &node("b"));
    assert_eq!(
        outside.to_string(),
        "virtual shard 7 is not asked on b: what lives in eu is kept to eu-1, eu-2, \
         and a server of it stands in us-1"
    );
    assert_eq!(verdict.misplaced(&map).len(), 2);
}

#[test]
fn override_does_not_take_an_id_out_of_the_home_that_its_bits_name() {
    let ids = IdGenerator::new(Clock::system(), KeyspaceTag::default());
    let id = ids.draw(VirtualShard::new(3));
    let stands = [stand("eu-1"), stand("us-1")];
    for to in [Target::Shard(VirtualShard::new(9)), Target::Node(node("b"))] {
        let map = map(8).change().divert(id, to.clone()).build().unwrap();
        let verdict = verdict(&europe(), &map, &stands);
        let (at, instead) = map.instead(id.into()).unwrap();
        let shard = match instead {
            Instead::Shard(shard) => shard,
            Instead::Node(_) => VirtualShard::new(3),
        };
        let of_key = Asked {
            shard,
            key: Some((id.into(), Some(at))),
            ..asked(0, 1)
        };
        assert!(verdict.breaks(&of_key).is_some(), "{to:?}");
        // Others there go on.
        assert!(verdict.breaks(&asked(9, 1)).is_none());
        let misplaced = verdict.misplaced(&map);
        assert_eq!(misplaced.len(), 1);
        assert_eq!(misplaced[0].outside.shard(), shard);
    }
}

#[test]
fn key_and_table_are_kept_by_themselves() {
    let us = region("us");
    let acme = Key::from("acme").within(&us);
    let residency = Residency::new()
        .pin_key(acme, [region("eu-1")])
        .pin_table("record", [region("eu-1")]);
    let map = map(8);
    let verdict = verdict(&residency, &map, &[stand("eu-1"), stand("us-1")]);
    let shard = keyspace(HOMES).shard(acme).unwrap().get();
    let of_key = |key| Asked {
        key: Some((key, None)),
        ..asked(shard, 1)
    };
    assert!(verdict.breaks(&of_key(acme)).is_some());
    assert!(
        verdict
            .breaks(&of_key(Key::from("acmf").within(&us)))
            .is_none()
    );
    assert!(verdict.breaks(&of_key("acme".into())).is_none());
    assert_eq!(verdict.misplaced(&map).len(), 1);
    let of_table = |tables: &'static [&str], node| {
        let tables: Vec<Arc<str>> = tables.iter().map(|table| (*table).into()).collect();
        let asked = Asked {
            tables: &tables,
            ..asked(shard, node)
        };
        verdict.breaks(&asked).is_some()
    };
    assert!(of_table(&["note", "record"], 1));
    assert!(!of_table(&["note", "record"], 0) && !of_table(&["note"], 1));
}

#[test]
fn pins_that_cannot_be_are_refused_by_name() {
    let homes = keyspace(HOMES);
    let nodes = [stand("eu-1 eu-2"), stand("us-1")];
    let refused = |residency: Residency, keyspace: &Keyspace| {
        let refused = Bound::new(&residency, keyspace, &nodes).unwrap_err();
        refused.to_string()
    };
    let none = [];
    let pin = Residency::new;
    for (residency, told) in [
        (
            pin().pin_home(region("eu"), none.clone()),
            "names no region",
        ),
        (pin().pin_table("record", none), "the table record names no"),
        (
            pin().pin_home(region("eu"), [region("eu-3")]),
            "eu-3, where no",
        ),
        (
            pin().pin_home(region("asia"), [region("eu-1")]),
            "no home region asia",
        ),
        // Its only node has another server as well.
        (
            pin().pin_home(region("eu"), [region("eu-1")]),
            "no node has all",
        ),
        (pin().pin_shards(8..17, [region("us-1")]), "there are 16"),
        (pin().pin_shards(8..8, [region("us-1")]), "there are 16"),
        (pin().pin_key("acme", [region("us-1")]), "no place"),
    ] {
        let refused = refused(residency, &homes);
        assert!(refused.contains(told), "{refused}");
    }
    let home = pin().pin_home(region("eu"), [region("us-1")]);
    assert!(refused(home, &keyspace("md5")).contains("no home region eu"));
}

/// First, how many, and the numbers of its regions.
type RangePin = (u32, u32, Vec<u8>);

/// Some pins of ranges on nodes in three regions.
fn scene() -> impl Strategy<Value = (Vec<Stand>, Vec<RangePin>)> {
    let name = |n: u8| RegionId::new(["a", "b", "c"][usize::from(n % 3)]);
    let server = (0..3_u8).prop_map(name);
    let nodes = proptest::collection::vec(proptest::collection::vec(server, 1..3), 1..6);
    let pin = (
        0..SHARDS,
        1..SHARDS,
        proptest::collection::vec(0..3_u8, 1..3),
    );
    (nodes, proptest::collection::vec(pin, 0..4))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// And it is even where nothing is pinned.
    #[test]
    fn first_map_puts_nothing_outside_that_could_be_inside((stands, pins) in scene()) {
        let keyspace = keyspace("id");
        let mut residency = Residency::new();
        for (start, size, regions) in pins {
            let regions = regions.into_iter().map(|n| region(["a", "b", "c"][usize::from(n)]));
            residency = residency.pin_shards(start..(start + size).min(SHARDS), regions);
        }
        let Ok(bound) = Bound::new(&residency, &keyspace, &stands) else {
            return Ok(());
        };
        let names: Vec<NodeId> = (0..stands.len()).map(|n| node(&format!("n{n}"))).collect();
        let even = Topology::even(names, SHARDS).unwrap();
        let map = spread(&bound, even.clone(), &stands).unwrap();
        for shard in (0..SHARDS).map(VirtualShard::new) {
            let holds = |stand: &Stand| bound.of_shard(shard).all(|pin| bound.pins[pin].allows(stand));
            let at = map.locate(shard).unwrap();
            prop_assert!(holds(&stands[at]) || !stands.iter().any(holds));
        }
        if bound.is_empty() {
            prop_assert_eq!(map, even);
        }
    }
}
