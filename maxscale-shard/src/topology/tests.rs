use maxscale_core::fact::RegionId;
use maxscale_core::id::KeyspaceTag;

use super::*;

pub(super) fn node(number: usize) -> NodeId {
    NodeId::new(&format!("node-{number}")).unwrap()
}

pub(super) fn nodes(count: usize) -> Vec<NodeId> {
    (1..=count).map(node).collect()
}

fn shard(number: u32) -> VirtualShard {
    VirtualShard::new(number)
}

fn two_of_eight() -> TopologyBuilder {
    let (one, two) = (node(1), node(2));
    Topology::builder(nodes(2), 8)
        .assign(0..4, &one)
        .assign(4..8, &two)
}

#[test]
fn impossible_maps_are_refused() {
    let twice = Topology::even(vec![node(1), node(1)], 4);
    assert_eq!(twice, Err(TopologyError::Twice(node(1))));
    let count = |map: Result<Topology, _>| matches!(map, Err(TopologyError::Count { .. }));
    assert!(count(Topology::even(nodes(5), 4)) && count(Topology::even(vec![], 4)));
    assert!(count(Topology::builder(nodes(1), 131_073).build()));
    assert!(count(Topology::builder([], 4).build()));
    assert!(matches!(NodeId::new("Ä"), Err(TopologyError::Name(_))));
}

#[test]
fn stored_map_of_another_count_or_an_unknown_node_is_refused() {
    let stored = |slots| Topology::stored(Epoch::FIRST, nodes(1), slots, 3);
    assert!(stored(vec![0, 0, 0]).is_ok());
    assert!(matches!(
        stored(vec![0, 0]),
        Err(TopologyError::OtherCount { found: 2, .. })
    ));
    let unknown = TopologyError::UnknownPlace {
        shard: shard(1),
        place: 1,
    };
    assert_eq!(stored(vec![0, 1, 0]), Err(unknown));
}

#[test]
fn map_with_a_gap_an_overlap_or_an_unknown_node_is_refused() {
    let (one, two) = (node(1), node(2));
    let builder = || Topology::builder(nodes(2), 8);
    let gap = builder().assign(0..4, &one).assign(5..8, &two).build();
    assert_eq!(gap, Err(TopologyError::Gap(shard(4))));
    let overlap = builder().assign(0..5, &one).assign(4..8, &two).build();
    let expected = TopologyError::Overlap {
        shard: shard(4),
        first: one.clone(),
        second: two.clone(),
    };
    assert_eq!(overlap, Err(expected));
    let unknown = builder().assign(0..8, &node(3)).build();
    assert_eq!(unknown, Err(TopologyError::Unknown(node(3))));
    let beyond = builder().assign(0..9, &one).build();
    assert!(matches!(
        beyond,
        Err(TopologyError::Beyond { count: 8, .. })
    ));
    let map = two_of_eight().build().unwrap();
    assert_eq!(
        [0, 3, 4, 7].map(|n| map.locate(shard(n))),
        [Some(0), Some(0), Some(1), Some(1)]
    );
    assert_eq!(map.locate(shard(8)), None);
}

#[test]
fn change_is_the_next_epoch_and_leaves_the_rest() {
    let map = two_of_eight().build().unwrap();
    let moves = [SlotMove {
        shard: shard(3),
        from: node(1),
        to: node(3),
    }];
    let next = map
        .change()
        .list(node(3))
        .state(0..1, SlotState::Frozen)
        .apply(&moves);
    let next = next.build().unwrap();
    assert_eq!((map.epoch().get(), next.epoch().get()), (1, 2));
    assert_eq!(next.locate(shard(3)), Some(2));
    assert_eq!(next.state(shard(0)), Some(SlotState::Frozen));
    let others = [0, 1, 2, 4, 5, 6, 7].map(shard);
    assert_eq!(
        others.map(|s| next.locate(s)),
        others.map(|s| map.locate(s))
    );
    assert_eq!(next.state(shard(1)), Some(SlotState::Serving));
}

#[test]
fn virtual_shard_that_has_moved_serves() {
    let moves = [SlotMove {
        shard: shard(3),
        from: node(1),
        to: node(2),
    }];
    let frozen = two_of_eight()
        .state(3..4, SlotState::Frozen)
        .build()
        .unwrap();
    let moved = frozen.change().apply(&moves).build().unwrap();
    assert_eq!(moved.state(shard(3)), Some(SlotState::Serving));
}

#[test]
fn move_planned_for_another_map_is_refused() {
    let map = two_of_eight().build().unwrap();
    let apply = |number, from, to| {
        let moves = [SlotMove {
            shard: shard(number),
            from: node(from),
            to: node(to),
        }];
        map.change().apply(&moves).build().unwrap_err()
    };
    assert!(matches!(apply(0, 2, 1), TopologyError::Moved { .. }));
    assert_eq!(apply(0, 1, 3), TopologyError::Unknown(node(3)));
    assert!(matches!(apply(8, 1, 2), TopologyError::Beyond { .. }));
}

#[test]
fn node_leaves_the_list_once_it_holds_nothing() {
    let plain = two_of_eight().build().unwrap();
    let refused = plain.change().unlist(&node(1)).build();
    assert_eq!(refused, Err(TopologyError::InUse(node(1))));
    let map = plain.change().divert("acme", Target::Node(node(1)));
    let map = map.build().unwrap();
    let drained = map.change().apply(&map.plan(&[node(2)]).unwrap());
    // The override is left.
    let refused = drained.clone().unlist(&node(1)).build();
    assert_eq!(refused, Err(TopologyError::InUse(node(1))));
    let alone = drained.restore("acme").unlist(&node(1)).build().unwrap();
    assert_eq!(alone.nodes(), [node(2)]);
    assert!((0..8).all(|n| alone.locate(shard(n)) == Some(0)));
}

#[test]
fn impossible_overrides_are_refused() {
    let to = || Target::Shard(shard(7));
    let built = |key: &str, to| two_of_eight().divert(key, to).build().unwrap_err();
    assert_eq!(built("", to()), TopologyError::NoKey);
    assert!(matches!(
        built("a", Target::Shard(shard(8))),
        TopologyError::Beyond { .. }
    ));
    assert_eq!(
        built("a", Target::Node(node(3))),
        TopologyError::Unknown(node(3))
    );
    let twice = two_of_eight().divert(42, to()).divert("42", to()).build();
    assert_eq!(twice, Err(TopologyError::Ambiguous("42".into())));
}

#[test]
fn overrides_are_listed_as_they_were_given() {
    let (eu, us) = (RegionId::new("eu").unwrap(), RegionId::new("us").unwrap());
    let map = two_of_eight()
        .divert(Key::from("b").within(&us), Target::Node(node(2)))
        .divert(Key::from("b").within(&eu), Target::Shard(shard(5)))
        .divert("a", Target::Shard(shard(6)));
    let map = map.build().unwrap();
    let listed: Vec<Override> = map.change().build().unwrap().overrides().collect();
    let expected = [
        Override::new("a", Target::Shard(shard(6))),
        Override::new(Key::from("b").within(&eu), Target::Shard(shard(5))),
        Override::new(Key::from("b").within(&us), Target::Node(node(2))),
    ];
    assert_eq!(listed, expected);
}

#[test]
fn map_of_another_keyspace_does_not_fit() {
    let keyspace = |shards, vindex: &str| {
        Keyspace::new(KeyspaceTag::default(), shards, vindex.parse().unwrap()).unwrap()
    };
    let eu = RegionId::new("eu").unwrap();
    let map = two_of_eight()
        .divert(Key::from("acme").within(&eu), Target::Shard(shard(4)))
        .build();
    let map = map.unwrap();
    assert_eq!(map.fits(&keyspace(8, "md5")), Ok(()));
    let other = map.fits(&keyspace(16, "md5"));
    assert_eq!(
        other,
        Err(TopologyError::OtherCount {
            found: 8,
            expected: 16
        })
    );
    assert_eq!(map.fits(&keyspace(8, "region:us=0+4,eu=4+4")), Ok(()));
    let outside = map.fits(&keyspace(8, "region:eu=0+4,us=4+4"));
    assert!(matches!(outside, Err(TopologyError::Residency { .. })));
}
