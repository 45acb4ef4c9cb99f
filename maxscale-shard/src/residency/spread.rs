//! A first map, in which everything stands inside.

use std::collections::{BTreeMap, HashMap};

use maxscale_core::fact::VirtualShard;

use super::{Bound, Stand};
use crate::topology::{Epoch, Topology, TopologyError};

/// The map `even`, whose nodes stand so, but for what it puts outside: as even as the
/// pins of virtual shards and of keys allow.
///
/// What only few nodes may hold is shared first. A virtual shard whose pins no
/// node fulfils together is shared as if it had none, and refused by the router.
pub(crate) fn spread(
    bound: &Bound,
    even: Topology,
    stands: &[Stand],
) -> Result<Topology, TopologyError> {
    let (nodes, shards) = (even.nodes().to_vec(), even.shards());
    let mut groups: BTreeMap<(usize, Vec<bool>), Vec<usize>> = BTreeMap::new();
    let mut keys: HashMap<VirtualShard, Vec<usize>> = HashMap::new();
    for key in bound.keys() {
        keys.entry(key.own).or_default().push(key.pin);
    }
    for number in 0..shards {
        let shard = VirtualShard::new(number);
        let mut pins: Vec<usize> = bound.of_shard(shard).collect();
        pins.extend(keys.get(&shard).into_iter().flatten());
        let allowed = |stand: &Stand| pins.iter().all(|pin| bound.pins[*pin].allows(stand));
        let mut inside: Vec<bool> = stands.iter().map(allowed).collect();
        if !inside.contains(&true) {
            inside.fill(true);
        }
        let count = inside.iter().filter(|inside| **inside).count();
        let group = groups.entry((count, inside)).or_default();
        group.push(number as usize);
    }
    if groups.keys().all(|(_, inside)| !inside.contains(&false)) {
        return Ok(even);
    }
    let mut held = vec![0_usize; nodes.len()];
    let mut slots = vec![0_u16; shards as usize];
    for ((_, inside), group) in groups {
        let mut share = vec![0_usize; nodes.len()];
        for _ in &group {
            let allowed = (0..nodes.len()).filter(|node| inside[*node]);
            // Each group has one; the first of those that hold least.
            let least = allowed.min_by_key(|node| held[*node]).unwrap_or_default();
            share[least] += 1;
            held[least] += 1;
        }
        // In runs, so that the map stays short.
        let runs = (0_u16..).zip(share);
        let runs = runs.flat_map(|(node, count)| std::iter::repeat_n(node, count));
        for (slot, node) in group.into_iter().zip(runs) {
            slots[slot] = node;
        }
    }
    Topology::stored(Epoch::FIRST, nodes, slots, shards)
}
