use maxscale_core::fact::{RegionId, VirtualShard};

use super::{NodeId, TopologyError};
use crate::key::Key;
use crate::vindex::Regions;

/// A single key that lies elsewhere than its text or its bits say: a tenant that
/// was moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    key: String,
    region: Option<RegionId>,
    to: Target,
}

/// Where the key of an [`Override`] lies.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Target {
    /// On another virtual shard, and with that on its node. Ids that are drawn
    /// there carry that virtual shard.
    Shard(VirtualShard),
    /// On another node, under its own virtual shard. What is looked for by an
    /// id of its own (a job) is not found there, as its bits say nothing of the
    /// tenant: such ids want an override each, or a virtual shard as the target.
    Node(NodeId),
}

/// By key and region, so that a look costs no allocation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Overrides(Vec<Entry>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    key: String,
    region: Option<RegionId>,
    to: Instead,
}

/// A [`Target`] whose node is its place in the list of nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Instead {
    Shard(VirtualShard),
    Node(u16),
}

// === impl Override ===

impl Override {
    /// `key` lies at `to`. Its region counts in keyspaces that are split by region.
    pub fn new<'k>(key: impl Into<Key<'k>>, to: Target) -> Self {
        let key = key.into();
        Self {
            key: key.with_text(str::to_owned),
            region: key.region().cloned(),
            to,
        }
    }

    /// The key's text.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The region that the key names.
    pub const fn region(&self) -> Option<&RegionId> {
        self.region.as_ref()
    }

    /// Where the key lies.
    pub const fn to(&self) -> &Target {
        &self.to
    }
}

// === impl Overrides ===

impl Overrides {
    pub(super) fn new(
        listed: Vec<Override>,
        nodes: &[NodeId],
        shards: u32,
    ) -> Result<Self, TopologyError> {
        let mut entries = Vec::new();
        for Override { key, region, to } in listed {
            let to = match to {
                Target::Shard(shard) if shard.get() < shards => Instead::Shard(shard),
                Target::Shard(shard) => {
                    return Err(TopologyError::Beyond {
                        shard,
                        count: shards,
                    });
                }
                Target::Node(node) => Instead::Node(super::place(nodes, &node)?),
            };
            if key.is_empty() {
                return Err(TopologyError::NoKey);
            }
            entries.push(Entry { key, region, to });
        }
        entries.sort_by(|a, b| a.name().cmp(&b.name()));
        match entries
            .windows(2)
            .find(|two| two[0].name() == two[1].name())
        {
            Some(two) => Err(TopologyError::Ambiguous(two[0].key.clone())),
            None => Ok(Self(entries)),
        }
    }

    pub(super) fn listed(&self, nodes: &[NodeId]) -> impl Iterator<Item = Override> {
        self.0.iter().map(|entry| Override {
            key: entry.key.clone(),
            region: entry.region.clone(),
            to: match entry.to {
                Instead::Shard(shard) => Target::Shard(shard),
                Instead::Node(place) => Target::Node(nodes[usize::from(place)].clone()),
            },
        })
    }

    /// What a key has instead, and its place in the list.
    pub(super) fn find(&self, key: Key<'_>) -> Option<(usize, Instead)> {
        // Nearly always, and then the key's text is not even written down.
        if self.0.is_empty() {
            return None;
        }
        key.with_text(|text| {
            let wanted = (text, key.region());
            let found = self.0.binary_search_by(|entry| entry.name().cmp(&wanted));
            found.ok().map(|at| (at, self.0[at].to))
        })
    }

    /// All keys, in the order of their places.
    pub(super) fn keys(&self) -> impl Iterator<Item = (Key<'_>, Instead)> {
        self.0.iter().map(|entry| {
            let key = Key::from(&entry.key);
            let key = match &entry.region {
                Some(region) => key.within(region),
                None => key,
            };
            (key, entry.to)
        })
    }

    pub(super) fn stay_in(&self, regions: &Regions) -> Result<(), TopologyError> {
        for Entry { key, region, to } in &self.0 {
            if let (Some(region), Instead::Shard(shard)) = (region, to)
                && regions.owner(*shard) != Some(region)
            {
                return Err(TopologyError::Residency {
                    key: key.clone(),
                    region: region.clone(),
                });
            }
        }
        Ok(())
    }
}

impl Entry {
    fn name(&self) -> (&str, Option<&RegionId>) {
        (&self.key, self.region.as_ref())
    }
}
