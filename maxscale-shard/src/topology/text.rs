//! A map as text: what a catalog stores, and what is kept on disk.
//!
//! ```text
//!  epoch 7
//!  shards 1024
//!  node eu-1
//!  node us-1
//!  slots 0 511 serving eu-1
//!  slots 512 1023 serving us-1
//!  override shard 17 - acme
//! ```

use std::fmt::{self, Write};
use std::str::FromStr;

use maxscale_core::fact::{RegionId, VirtualShard};

use super::{Epoch, NodeId, SlotState, Target, Topology, TopologyError};
use crate::key::Key;

/// A text that is no map.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MapTextError {
    /// A line that says nothing that a map says.
    #[error("line {0} of the map is not understood")]
    Line(usize),
    /// The lines make no map.
    #[error(transparent)]
    Topology(#[from] TopologyError),
}

// === impl Topology ===

/// The map as its catalog stores it. Equal maps have equal texts.
impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "epoch {}\nshards {}", self.epoch, self.shards())?;
        for node in &self.nodes {
            writeln!(f, "node {node}")?;
        }
        let mut first = 0;
        for run in self.slots.chunk_by(|a, b| a == b) {
            let (slot, next) = (run[0], first + run.len());
            let (state, node) = (slot.state, &self.nodes[usize::from(slot.node)]);
            writeln!(f, "slots {first} {} {state} {node}", next - 1)?;
            first = next;
        }
        for over in self.overrides() {
            let region = over.region().map_or("-", RegionId::as_str);
            let key = escaped(over.key());
            match over.to() {
                Target::Shard(shard) => writeln!(f, "override shard {shard} {region} {key}")?,
                Target::Node(node) => writeln!(f, "override node {node} {region} {key}")?,
            }
        }
        Ok(())
    }
}

impl FromStr for Topology {
    type Err = MapTextError;

    /// Reads a map from the text that it is displayed as.
    fn from_str(text: &str) -> Result<Self, MapTextError> {
        let (mut epoch, mut shards, mut nodes) = (None, None, Vec::new());
        let (mut slots, mut overrides) = (Vec::new(), Vec::new());
        for (line, told) in (1..).zip(text.lines()) {
            let unknown = || MapTextError::Line(line);
            let (what, rest) = told.split_once(' ').ok_or_else(unknown)?;
            match what {
                "epoch" if epoch.is_none() => epoch = rest.parse().ok().map(Epoch::new),
                "shards" if shards.is_none() => shards = rest.parse().ok(),
                "node" => nodes.push(NodeId::new(rest)?),
                "slots" => slots.push(Run::read(rest).ok_or_else(unknown)?),
                "override" => overrides.push(Diverted::read(rest).ok_or_else(unknown)?),
                _ => return Err(unknown()),
            }
        }
        let (Some(epoch), Some(shards)) = (epoch, shards) else {
            return Err(MapTextError::Line(1));
        };
        let mut map = Self::builder(nodes, shards).epoch(epoch);
        for Run { slots, state, node } in slots {
            map = map.assign(slots.clone(), &node).state(slots, state);
        }
        for Diverted { key, region, to } in overrides {
            let key = Key::from(key.as_str());
            map = match &region {
                Some(region) => map.divert(key.within(region), to),
                None => map.divert(key, to),
            };
        }
        Ok(map.build()?)
    }
}

struct Run {
    slots: std::ops::Range<u32>,
    state: SlotState,
    node: NodeId,
}

impl Run {
    fn read(rest: &str) -> Option<Self> {
        let mut words = rest.split(' ');
        let first: u32 = words.next()?.parse().ok()?;
        let last: u32 = words.next()?.parse().ok()?;
        let state = match words.next()? {
            "serving" => SlotState::Serving,
            "strict" => SlotState::Strict,
            "frozen" => SlotState::Frozen,
            _ => return None,
        };
        let node = NodeId::new(words.next()?).ok()?;
        let slots = first..last.checked_add(1)?;
        (words.next().is_none() && !slots.is_empty()).then_some(Self { slots, state, node })
    }
}

struct Diverted {
    key: String,
    region: Option<RegionId>,
    to: Target,
}

impl Diverted {
    fn read(rest: &str) -> Option<Self> {
        let mut words = rest.splitn(4, ' ');
        let (kind, place) = (words.next()?, words.next()?);
        let to = match kind {
            "shard" => Target::Shard(VirtualShard::new(place.parse().ok()?)),
            "node" => Target::Node(NodeId::new(place).ok()?),
            _ => return None,
        };
        let region = match words.next()? {
            "-" => None,
            name => Some(RegionId::new(name)?),
        };
        let key = unescaped(words.next()?)?;
        Some(Self { key, region, to })
    }
}

/// A key may hold anything, a line nothing that ends it.
fn escaped(key: &str) -> String {
    let mut text = String::with_capacity(key.len());
    for c in key.chars() {
        if c == '%' || c.is_ascii_control() {
            let _ = write!(text, "%{:02x}", u32::from(c));
        } else {
            text.push(c);
        }
    }
    text
}

fn unescaped(text: &str) -> Option<String> {
    let mut parts = text.split('%');
    let mut key = parts.next()?.to_owned();
    for part in parts {
        let (code, rest) = part.split_at_checked(2)?;
        key.push(char::from(u8::from_str_radix(code, 16).ok()?));
        key.push_str(rest);
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn node(at: usize) -> NodeId {
        NodeId::new(&format!("node-{at}")).unwrap()
    }

    fn state(number: u8) -> SlotState {
        [SlotState::Serving, SlotState::Strict, SlotState::Frozen][usize::from(number % 3)]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_map_reads_as_it_was_written(
            epoch in any::<u64>(),
            nodes in 1..5_usize,
            slots in proptest::collection::vec((0..5_usize, any::<u8>()), 5..40),
            keys in proptest::collection::btree_map("\\PC{1,12}|[\r\n\t% ]{1,4}", (any::<bool>(), any::<bool>()), 0..6),
        ) {
            let count = u32::try_from(slots.len()).unwrap();
            let mut map = Topology::builder((0..nodes).map(node), count).epoch(Epoch::new(epoch));
            for (number, (place, kind)) in (0..).zip(slots) {
                let one = number..number + 1;
                map = map.assign(one.clone(), &node(place % nodes)).state(one, state(kind));
            }
            let region = RegionId::new("eu").unwrap();
            for (key, (to_shard, regional)) in &keys {
                let to = if *to_shard {
                    Target::Shard(VirtualShard::new(count - 1))
                } else {
                    Target::Node(node(nodes - 1))
                };
                let key = Key::from(key.as_str());
                map = map.divert(if *regional { key.within(&region) } else { key }, to);
            }
            let map = map.build().unwrap();
            let text = map.to_string();
            prop_assert_eq!(text.parse::<Topology>().unwrap(), map);
        }

        #[test]
        fn any_other_text_is_refused_and_not_a_fault(text in "(epoch [0-9]{1,3}\n)?(shards [0-9]{1,9}\n)?(node [a-z]{0,3}\n){0,3}(slots [0-9 ]{0,8} serving [a-z]{1,2}\n){0,3}\\PC{0,20}") {
            let _ = text.parse::<Topology>();
        }
    }

    #[test]
    fn text_with_a_gap_an_unknown_word_or_a_bad_number_is_refused() {
        let good = "epoch 7\nshards 4\nnode a\nslots 0 3 serving a\noverride shard 1 - x%0ay\n";
        let map = good.parse::<Topology>().unwrap();
        assert_eq!(map.overrides().next().unwrap().key(), "x\ny");
        for (part, instead) in [
            ("slots 0 3", "slots 0 2"),
            ("slots 0 3", "slots 3 0"),
            ("slots 0 3", "slots 0 4294967295"),
            ("epoch 7\n", ""),
            ("epoch 7", "epoch -7"),
            ("serving", "resting"),
            ("serving a", "serving b"),
            ("node a", "knot a"),
            ("shard 1", "shard 4"),
            ("x%0ay", "x%0"),
            (" - x%0ay", ""),
        ] {
            let bad = good.replace(part, instead);
            assert!(bad.parse::<Topology>().is_err(), "{bad}");
        }
    }
}
