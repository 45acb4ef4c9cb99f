use std::fmt;
use std::sync::Arc;

use maxscale_core::fact::VirtualShard;

/// Names a node: a database to connect to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(Arc<str>);

/// Counts the changes of a map; a router refuses an older one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Epoch(u64);

/// Which node holds each virtual shard. Opens no connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    epoch: Epoch,
    nodes: Vec<NodeId>,
    slots: Vec<u16>,
}

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

/// A map that cannot be.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum TopologyError {
    /// The node's name is empty, too long, or has other characters than `a-z`, `0-9` and `-`.
    #[error("node name {0:?} must have 1 to 63 characters of a-z, 0-9 and '-'")]
    Name(String),
    /// Two nodes have one name.
    #[error("node {0} is listed twice")]
    Twice(NodeId),
    /// No node, or more nodes than virtual shards.
    #[error("{nodes} nodes cannot share {shards} virtual shards")]
    Count {
        /// How many nodes.
        nodes: usize,
        /// How many virtual shards.
        shards: u32,
    },
    /// A slot names a node that is not listed, or the number of slots is wrong.
    #[error("the stored map has {found} virtual shards on known nodes, {expected} were expected")]
    Gap {
        /// Slots with a known node.
        found: usize,
        /// The keyspace's count.
        expected: u32,
    },
}

// === impl NodeId ===

impl NodeId {
    /// The longest name, in bytes.
    pub const MAX_LEN: usize = 63;

    /// The node called `name`.
    ///
    /// # Errors
    ///
    /// Returns [`TopologyError::Name`] unless the name is 1 to 63 of `a-z`, `0-9`, `-`.
    pub fn new(name: &str) -> Result<Self, TopologyError> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if (1..=Self::MAX_LEN).contains(&name.len()) && name.bytes().all(plain) {
            Ok(Self(name.into()))
        } else {
            Err(TopologyError::Name(name.to_owned()))
        }
    }

    /// The node's name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn shared(&self) -> Arc<str> {
        self.0.clone()
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// === impl Epoch ===

impl Epoch {
    /// The epoch of a fleet's first map.
    pub const FIRST: Self = Self(1);

    /// The epoch numbered `number`.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The epoch's number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

// === impl Topology ===

impl Topology {
    /// The most virtual shards a keyspace may have.
    pub const MAX_SHARDS: u32 = 131_072;

    /// Shares `shards` virtual shards among `nodes`, in ranges equal within one.
    ///
    /// # Errors
    ///
    /// Returns [`TopologyError`] for a doubled name or an impossible count.
    pub fn even(nodes: Vec<NodeId>, shards: u32) -> Result<Self, TopologyError> {
        check_nodes(&nodes, shards)?;
        let count = u64::try_from(nodes.len()).unwrap_or(u64::MAX);
        // Below the number of nodes, which is below u16::MAX.
        let node_of = |slot: u32| u64::from(slot) * count / u64::from(shards);
        let slots = (0..shards)
            .map(|slot| u16::try_from(node_of(slot)).unwrap_or(u16::MAX))
            .collect();
        Ok(Self {
            epoch: Epoch::FIRST,
            nodes,
            slots,
        })
    }

    /// The map that a catalog stored: the node of each slot, by its place in `nodes`.
    ///
    /// # Errors
    ///
    /// Returns [`TopologyError`] for a gap, an unknown node or a doubled name.
    pub fn stored(
        epoch: Epoch,
        nodes: Vec<NodeId>,
        slots: Vec<u16>,
        shards: u32,
    ) -> Result<Self, TopologyError> {
        check_nodes(&nodes, shards)?;
        let found = slots
            .iter()
            .filter(|n| usize::from(**n) < nodes.len())
            .count();
        if found != slots.len() || u32::try_from(found) != Ok(shards) {
            return Err(TopologyError::Gap {
                found,
                expected: shards,
            });
        }
        Ok(Self {
            epoch,
            nodes,
            slots,
        })
    }

    /// The map's epoch.
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The keyspace's number of virtual shards.
    pub fn shards(&self) -> u32 {
        u32::try_from(self.slots.len()).unwrap_or(Self::MAX_SHARDS)
    }

    /// All nodes, in the order of their first listing.
    pub fn nodes(&self) -> &[NodeId] {
        &self.nodes
    }

    /// The place in [`nodes`](Self::nodes) of the node that holds `shard`.
    pub fn locate(&self, shard: VirtualShard) -> Option<usize> {
        let slot = usize::try_from(shard.get()).ok()?;
        self.slots.get(slot).map(|node| usize::from(*node))
    }

    pub(crate) fn slots(&self) -> &[u16] {
        &self.slots
    }

    /// The moves that lead to `nodes`: the fewest possible, and equal within one.
    ///
    /// # Errors
    ///
    /// Returns [`TopologyError`] for a doubled name or an impossible count.
    pub fn plan(&self, nodes: &[NodeId]) -> Result<Vec<SlotMove>, TopologyError> {
        check_nodes(nodes, self.shards())?;
        let target = |at: usize| {
            let share = self.slots.len() / nodes.len();
            share + usize::from(at < self.slots.len() % nodes.len())
        };
        let place = |name: &NodeId| nodes.iter().position(|n| n == name);
        let mut held = vec![0_usize; nodes.len()];
        for slot in &self.slots {
            if let Some(at) = place(&self.nodes[usize::from(*slot)]) {
                held[at] += 1;
            }
        }
        // The larger shares go to the fullest nodes, so that fewer slots move.
        let mut order: Vec<usize> = (0..nodes.len()).collect();
        order.sort_by_key(|at| std::cmp::Reverse(held[*at]));
        let mut room = vec![0_usize; nodes.len()];
        for (rank, at) in order.iter().enumerate() {
            room[*at] = target(rank);
        }
        let mut homeless = Vec::new();
        for (number, slot) in (0..).zip(&self.slots) {
            let from = &self.nodes[usize::from(*slot)];
            match place(from) {
                Some(at) if room[at] > 0 => room[at] -= 1,
                _ => homeless.push((VirtualShard::new(number), from.clone())),
            }
        }
        let takers = (0..nodes.len()).flat_map(|at| std::iter::repeat_n(&nodes[at], room[at]));
        Ok(homeless
            .into_iter()
            .zip(takers)
            .map(|((shard, from), to)| SlotMove {
                shard,
                from,
                to: to.clone(),
            })
            .collect())
    }
}

fn check_nodes(nodes: &[NodeId], shards: u32) -> Result<(), TopologyError> {
    let fits = (1..=Topology::MAX_SHARDS).contains(&shards)
        && (1..usize::from(u16::MAX)).contains(&nodes.len())
        && u32::try_from(nodes.len()).is_ok_and(|n| n <= shards);
    if !fits {
        return Err(TopologyError::Count {
            nodes: nodes.len(),
            shards,
        });
    }
    let mut names: Vec<&NodeId> = nodes.iter().collect();
    names.sort();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(TopologyError::Twice(pair[0].clone())),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn nodes(count: usize) -> Vec<NodeId> {
        (1..=count)
            .map(|n| NodeId::new(&format!("node-{n}")).unwrap())
            .collect()
    }

    fn apply(map: &Topology, to: &[NodeId], moves: &[SlotMove]) -> Topology {
        let place = |name: &NodeId| u16::try_from(to.iter().position(|n| n == name).unwrap());
        let slots = (0..map.shards())
            .map(|slot| {
                let shard = VirtualShard::new(slot);
                let here = &map.nodes()[map.locate(shard).unwrap()];
                let there = moves
                    .iter()
                    .find(|m| m.shard == shard)
                    .map_or(here, |m| &m.to);
                place(there).unwrap()
            })
            .collect();
        Topology::stored(Epoch::new(2), to.to_vec(), slots, map.shards()).unwrap()
    }

    proptest! {
        #[test]
        fn plan_is_balanced_and_moves_the_fewest(from in 1_usize..40, to in 1_usize..40, shards in 40_u32..200) {
            let map = Topology::even(nodes(from), shards).unwrap();
            let goal = nodes(to);
            let moves = map.plan(&goal).unwrap();
            let after = apply(&map, &goal, &moves);
            let held: Vec<usize> = (0..to).map(|n| after.slots.iter().filter(|s| usize::from(**s) == n).count()).collect();
            prop_assert!(held.iter().max().unwrap() - held.iter().min().unwrap() <= 1);
            // Growing moves exactly what the new nodes hold, shrinking what the old ones held.
            let fewest = if to >= from {
                held[from..].iter().sum::<usize>()
            } else {
                map.slots.iter().filter(|s| usize::from(**s) >= to).count()
            };
            prop_assert_eq!(moves.len(), fewest);
        }
    }

    #[test]
    fn impossible_maps_are_refused() {
        let twice = vec![NodeId::new("a").unwrap(), NodeId::new("a").unwrap()];
        assert!(matches!(
            Topology::even(twice, 4),
            Err(TopologyError::Twice(_))
        ));
        assert!(matches!(
            Topology::even(nodes(5), 4),
            Err(TopologyError::Count { .. })
        ));
        assert!(matches!(
            Topology::even(vec![], 4),
            Err(TopologyError::Count { .. })
        ));
        assert!(matches!(NodeId::new("Ä"), Err(TopologyError::Name(_))));
        let gap = Topology::stored(Epoch::FIRST, nodes(1), vec![0, 1, 0], 3);
        assert!(matches!(gap, Err(TopologyError::Gap { .. })));
    }
}
