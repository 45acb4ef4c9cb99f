use std::collections::HashMap;

use maxscale_core::fact::VirtualShard;

use super::{NodeId, Topology, TopologyError, check_nodes};

/// One virtual shard that changes its node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotMove {
    /// The virtual shard.
    pub shard: VirtualShard,
    /// Where it lies.
    pub from: NodeId,
    /// Where it would go.
    pub to: NodeId,
}

impl Topology {
    /// The moves that lead to `nodes`: the fewest possible, and equal within one.
    ///
    /// Overrides are left where they are.
    ///
    /// # Errors
    ///
    /// Returns [`TopologyError`] for a doubled name or an impossible count.
    pub fn plan(&self, nodes: &[NodeId]) -> Result<Vec<SlotMove>, TopologyError> {
        check_nodes(nodes, self.shards())?;
        let listed: HashMap<&NodeId, usize> = nodes.iter().zip(0..).collect();
        // Where each node of this map stands among the wanted ones.
        let wanted: Vec<Option<usize>> = (self.nodes.iter())
            .map(|node| listed.get(node).copied())
            .collect();
        let place = |slot: &super::Slot| wanted[usize::from(slot.node)];

        let mut held = vec![0_usize; nodes.len()];
        for at in self.slots.iter().filter_map(place) {
            held[at] += 1;
        }
        // The larger shares go to the fullest nodes, so that fewer slots move.
        let mut order: Vec<usize> = (0..nodes.len()).collect();
        order.sort_by_key(|at| std::cmp::Reverse(held[*at]));
        let (share, larger) = (
            self.slots.len() / nodes.len(),
            self.slots.len() % nodes.len(),
        );
        let mut room = vec![share; nodes.len()];
        for at in &order[..larger] {
            room[*at] += 1;
        }

        let mut homeless = Vec::new();
        for (number, slot) in (0..).zip(&self.slots) {
            match place(slot) {
                Some(at) if room[at] > 0 => room[at] -= 1,
                _ => homeless.push((VirtualShard::new(number), slot.node)),
            }
        }
        let takers = (0..nodes.len()).flat_map(|at| std::iter::repeat_n(&nodes[at], room[at]));
        Ok(homeless
            .into_iter()
            .zip(takers)
            .map(|((shard, from), to)| SlotMove {
                shard,
                from: self.nodes[usize::from(from)].clone(),
                to: to.clone(),
            })
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::nodes;
    use super::*;
    use crate::topology::Epoch;

    fn held(map: &Topology, count: usize) -> Vec<usize> {
        let mut held = vec![0; count];
        for place in map.slots.iter().map(|slot| slot.node) {
            held[usize::from(place)] += 1;
        }
        held
    }

    /// Takes the plan to `goal`; gives the map that it leads to and the number of moves.
    fn go(map: &Topology, goal: &[NodeId]) -> (Topology, usize) {
        let moves = map.plan(goal).unwrap();
        let listed = |node: &&NodeId| !map.nodes().contains(node);
        let mut change = map.change();
        for node in goal.iter().filter(listed) {
            change = change.list(node.clone());
        }
        change = change.apply(&moves);
        for node in map.nodes().iter().filter(|node| !goal.contains(node)) {
            change = change.unlist(node);
        }
        (change.build().unwrap(), moves.len())
    }

    /// What no plan can undercut: each wanted node keeps at most its share, and
    /// only as many as there are larger shares keep one more.
    fn fewest(map: &Topology, goal: &[NodeId]) -> usize {
        let all = map.slots.len();
        let (share, larger) = (all / goal.len(), all % goal.len());
        let held: Vec<usize> = (map.nodes().iter().zip(held(map, map.nodes().len())))
            .filter(|(node, _)| goal.contains(node))
            .map(|(_, held)| held)
            .collect();
        let kept: usize = held.iter().map(|held| *held.min(&share)).sum();
        all - kept
            - held
                .iter()
                .filter(|held| **held > share)
                .count()
                .min(larger)
    }

    fn check(map: &Topology, goal: &[NodeId]) -> Topology {
        let (after, moves) = go(map, goal);
        assert_eq!(moves, fewest(map, goal));
        let held = held(&after, after.nodes().len());
        assert_eq!(held.len(), goal.len());
        assert!(
            held.iter().max().unwrap() - held.iter().min().unwrap() <= 1,
            "{held:?}"
        );
        after
    }

    #[test]
    fn growing_to_1024_nodes_and_back_moves_the_fewest_and_stays_balanced() {
        let mut map = Topology::even(nodes(1), 1024).unwrap();
        let mut moved = Vec::new();
        for count in [4, 16, 100, 256, 1024, 256, 100, 16, 4, 1] {
            let (before, after) = (map.clone(), check(&map, &nodes(count)));
            moved.push(go(&before, &nodes(count)).1);
            map = after;
        }
        assert_eq!(map.epoch().get(), 11);
        // What the new nodes hold, then what the old ones held.
        assert_eq!(moved, [768, 768, 848, 624, 768, 768, 624, 848, 768, 768]);
    }

    proptest! {
        /// From any map, however uneven, to any nodes, whether or not it knows them.
        #[test]
        fn plan_is_balanced_and_moves_the_fewest(
            slots in prop::collection::vec(0_u16..20, 20..200),
            goal in prop::collection::hash_set(1_usize..30, 1..20),
        ) {
            let shards = u32::try_from(slots.len()).unwrap();
            let map = Topology::stored(Epoch::FIRST, nodes(20), slots, shards).unwrap();
            let goal: Vec<NodeId> = goal.into_iter().map(super::super::tests::node).collect();
            let after = check(&map, &goal);
            // Where nothing is left to do, nothing is done.
            prop_assert_eq!(after.plan(&goal), Ok(vec![]));
        }
    }

    proptest! {
        // A thousand names take their time.
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn any_way_between_the_usual_counts_moves_the_fewest(
            way in prop::collection::vec(prop::sample::select(vec![1_usize, 4, 16, 100, 256, 1024]), 1..4),
        ) {
            let mut map = Topology::even(nodes(1), 1024).unwrap();
            for count in way {
                map = check(&map, &nodes(count));
            }
        }
    }
}
