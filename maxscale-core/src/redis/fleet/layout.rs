use std::ops::RangeInclusive;
use std::sync::Arc;

use fred::util::redis_keyslot;

use crate::redis::address::Address;
use crate::redis::node::Running;

/// How many slots a cluster divides its keys into.
const SLOTS: u16 = 16_384;

/// A slot that nobody serves.
const NOBODY: u16 = u16::MAX;

/// Who serves which slots.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Layout(pub(super) Vec<(RangeInclusive<u16>, Address)>);

/// A layout with its servers.
#[derive(Debug, Default)]
pub(super) struct Map {
    pub(super) layout: Layout,
    pub(super) nodes: Vec<Arc<Running>>,
    /// For each slot the number of its node.
    slots: Vec<u16>,
    complete: bool,
}

// === impl Layout ===

impl Layout {
    /// One server has it all.
    pub(super) fn one(address: Address) -> Self {
        Self(vec![(0..=SLOTS - 1, address)])
    }
}

// === impl Map ===

impl Map {
    pub(super) fn new(layout: &Layout, node: impl Fn(&Address) -> Arc<Running>) -> Self {
        let mut nodes: Vec<Arc<Running>> = Vec::new();
        let mut slots = vec![NOBODY; SLOTS.into()];
        for (range, address) in &layout.0 {
            let known = nodes.iter().position(|it| it.node.address == *address);
            let place = known.unwrap_or_else(|| {
                nodes.push(node(address));
                nodes.len() - 1
            });
            let place = u16::try_from(place).expect("no more nodes than slots");
            for slot in range.clone() {
                if let Some(slot) = slots.get_mut(usize::from(slot)) {
                    *slot = place;
                }
            }
        }
        Self {
            layout: layout.clone(),
            complete: !slots.contains(&NOBODY),
            nodes,
            slots,
        }
    }

    /// Whether no server is up.
    #[cfg(feature = "limit")]
    pub(super) fn is_down(&self) -> bool {
        self.nodes.iter().all(|it| !it.node.is_up())
    }

    /// Whether every key has a server, and each of them is up.
    pub(super) fn is_up(&self) -> bool {
        self.complete && self.nodes.iter().all(|it| it.node.is_up())
    }

    /// A server that is up, if there is one.
    pub(super) fn any(&self) -> Option<&Arc<Running>> {
        let up = self.nodes.iter().find(|it| it.node.is_up());
        up.or_else(|| self.nodes.first())
    }

    pub(super) fn at(&self, address: &Address) -> Option<&Arc<Running>> {
        self.nodes.iter().find(|it| it.node.address == *address)
    }

    pub(super) fn of_key(&self, key: &[u8]) -> Option<&Arc<Running>> {
        let place = self.slots.get(usize::from(redis_keyslot(key)))?;
        self.nodes.get(usize::from(*place))
    }
}
