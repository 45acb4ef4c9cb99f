use std::collections::HashMap;
use std::ops::Range;

use maxscale_core::fact::VirtualShard;

use super::{
    Epoch, NodeId, Override, Overrides, Slot, SlotMove, SlotState, Target, Topology, TopologyError,
    check_nodes, place,
};
use crate::key::Key;

/// Builds a map: a first one ([`Topology::builder`]), or that of the next epoch
/// ([`Topology::change`]).
///
/// What cannot be is told by [`build`](Self::build): the first of it.
#[derive(Clone, Debug)]
#[must_use]
pub struct TopologyBuilder {
    epoch: Epoch,
    nodes: Vec<NodeId>,
    slots: Vec<Option<Slot>>,
    overrides: Vec<Override>,
    wrong: Option<TopologyError>,
}

// === impl TopologyBuilder ===

impl TopologyBuilder {
    pub(super) fn fresh(nodes: Vec<NodeId>, shards: u32) -> Self {
        // Nothing is allocated for a count that cannot be, which `build` refuses.
        let fits = (1..=Topology::MAX_SHARDS).contains(&shards);
        let wrong = (!fits).then_some(TopologyError::Count {
            nodes: nodes.len(),
            shards,
        });
        let count = if fits { shards } else { 0 };
        Self {
            epoch: Epoch::FIRST,
            nodes,
            slots: (0..count).map(|_| None).collect(),
            overrides: Vec::new(),
            wrong,
        }
    }

    pub(super) fn of(map: &Topology) -> Self {
        Self {
            epoch: map.epoch.next(),
            nodes: map.nodes.clone(),
            slots: map.slots.iter().copied().map(Some).collect(),
            overrides: map.overrides().collect(),
            wrong: None,
        }
    }

    /// Sets the epoch. Default: [`Epoch::FIRST`], of a change the next one.
    pub const fn epoch(mut self, epoch: Epoch) -> Self {
        self.epoch = epoch;
        self
    }

    /// Lists one more node.
    pub fn list(mut self, node: NodeId) -> Self {
        self.nodes.push(node);
        self
    }

    /// Takes a node off the list; it must hold nothing any more.
    pub fn unlist(self, node: &NodeId) -> Self {
        self.attempt(|this| {
            let place = place(&this.nodes, node)?;
            let holds = this.slots.iter().flatten().any(|slot| slot.node == place);
            let to = |to: &Override| matches!(to.to(), Target::Node(named) if named == node);
            if holds || this.overrides.iter().any(to) {
                return Err(TopologyError::InUse(node.clone()));
            }
            this.nodes.remove(usize::from(place));
            for slot in this.slots.iter_mut().flatten() {
                slot.node -= u16::from(slot.node > place);
            }
            Ok(())
        })
    }

    /// Puts the virtual shards of `range`, which lie nowhere yet, on `node`.
    pub fn assign(self, range: Range<u32>, node: &NodeId) -> Self {
        self.attempt(|this| {
            let place = place(&this.nodes, node)?;
            for number in range {
                let shard = VirtualShard::new(number);
                if let Some(slot) = this.slot(shard)? {
                    return Err(TopologyError::Overlap {
                        shard,
                        first: this.nodes[usize::from(slot.node)].clone(),
                        second: node.clone(),
                    });
                }
                this.put(shard, Slot::on(place));
            }
            Ok(())
        })
    }

    /// Takes the steps of a [plan](Topology::plan). A virtual shard that has moved
    /// [serves](SlotState::Serving).
    pub fn apply<'m>(self, moves: impl IntoIterator<Item = &'m SlotMove>) -> Self {
        self.attempt(|this| {
            let nodes = this.nodes.clone();
            let listed: HashMap<&NodeId, u16> = nodes.iter().zip(0..).collect();
            let place = |node: &NodeId| {
                let place = listed.get(node).copied();
                place.ok_or_else(|| TopologyError::Unknown(node.clone()))
            };
            for SlotMove { shard, from, to } in moves {
                let (from_place, to_place) = (place(from)?, place(to)?);
                if this
                    .slot(*shard)?
                    .is_none_or(|slot| slot.node != from_place)
                {
                    return Err(TopologyError::Moved {
                        shard: *shard,
                        node: from.clone(),
                    });
                }
                this.put(*shard, Slot::on(to_place));
            }
            Ok(())
        })
    }

    /// Sets how the virtual shards of `range` are served. Default: [`SlotState::Serving`].
    pub fn state(self, range: Range<u32>, state: SlotState) -> Self {
        self.attempt(|this| {
            for shard in range.map(VirtualShard::new) {
                let slot = this.slot(shard)?.ok_or(TopologyError::Gap(shard))?;
                this.put(shard, Slot { state, ..slot });
            }
            Ok(())
        })
    }

    /// Lets one key lie elsewhere.
    pub fn divert<'k>(mut self, key: impl Into<Key<'k>>, to: Target) -> Self {
        self.overrides.push(Override::new(key, to));
        self
    }

    /// Lets one key lie where it belongs again.
    pub fn restore<'k>(mut self, key: impl Into<Key<'k>>) -> Self {
        let key = key.into();
        key.with_text(|text| {
            (self.overrides)
                .retain(|listed| listed.key() != text || listed.region() != key.region());
        });
        self
    }

    /// Finishes the map.
    ///
    /// # Errors
    ///
    /// Returns [`TopologyError`] for a gap, an overlap, an unknown node, and
    /// whatever else was wrong first.
    pub fn build(self) -> Result<Topology, TopologyError> {
        if let Some(wrong) = self.wrong {
            return Err(wrong);
        }
        let shards = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
        check_nodes(&self.nodes, shards)?;
        let slot = |(number, slot): (u32, Option<Slot>)| {
            slot.ok_or(TopologyError::Gap(VirtualShard::new(number)))
        };
        let slots: Result<Vec<Slot>, TopologyError> = (0..).zip(self.slots).map(slot).collect();
        let overrides = Overrides::new(self.overrides, &self.nodes, shards)?;
        Ok(Topology {
            epoch: self.epoch,
            nodes: self.nodes,
            slots: slots?,
            overrides,
        })
    }

    fn attempt(mut self, step: impl FnOnce(&mut Self) -> Result<(), TopologyError>) -> Self {
        if self.wrong.is_none() {
            self.wrong = step(&mut self).err();
        }
        self
    }

    fn slot(&self, shard: VirtualShard) -> Result<Option<Slot>, TopologyError> {
        let at = usize::try_from(shard.get()).unwrap_or(usize::MAX);
        self.slots.get(at).copied().ok_or(TopologyError::Beyond {
            shard,
            count: u32::try_from(self.slots.len()).unwrap_or(u32::MAX),
        })
    }

    /// Replaces what [`slot`](Self::slot) gave.
    fn put(&mut self, shard: VirtualShard, slot: Slot) {
        if let Some(old) = usize::try_from(shard.get())
            .ok()
            .and_then(|at| self.slots.get_mut(at))
        {
            *old = Some(slot);
        }
    }
}
