//! What a table of the file says, key by key, and at which line it says nothing that fits.

use std::collections::BTreeMap;

use maxscale_core::fact::{RegionId, VirtualShard};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Found, MapFileError};
use crate::key::Key;
use crate::topology::{NodeId, SlotState, Target, TopologyBuilder};

/// A table of the file, whose keys are all known.
pub(super) struct Fields<'t> {
    text: &'t str,
    start: usize,
    values: BTreeMap<&'t str, &'t Spanned<DeValue<'t>>>,
}

impl<'t> Fields<'t> {
    pub(super) fn of(
        text: &'t str,
        start: usize,
        table: &'t DeTable<'t>,
        known: &[&str],
    ) -> Found<Self> {
        let mut values = BTreeMap::new();
        for (name, value) in table {
            let key: &str = name.get_ref();
            if !known.contains(&key) {
                return Err(MapFileError::Unknown {
                    line: line_of(text, name.span().start),
                    name: key.to_owned(),
                });
            }
            values.insert(key, value);
        }
        Ok(Self {
            text,
            start,
            values,
        })
    }

    /// The table called `name`, or each of several.
    pub(super) fn tables(&self, name: &'static str, known: &[&str]) -> Found<Vec<Self>> {
        let Some(value) = self.values.get(name) else {
            return Ok(Vec::new());
        };
        let wrong = || self.wrong(name, "a table");
        let of = |value: &'t Spanned<DeValue<'t>>| {
            let table = value.get_ref().as_table().ok_or_else(wrong)?;
            Fields::of(self.text, value.span().start, table, known)
        };
        match value.get_ref() {
            DeValue::Array(all) if name != "keyspace" => all.iter().map(of).collect(),
            DeValue::Table(_) if name == "keyspace" => Ok(vec![of(value)?]),
            _ => Err(wrong()),
        }
    }

    pub(super) fn nodes(&self) -> Found<Vec<NodeId>> {
        let wrong = || self.wrong("nodes", "a list of names");
        let value = self.values.get("nodes");
        let value = value.ok_or_else(|| self.missing("nodes"))?;
        let names = value.get_ref().as_array().ok_or_else(wrong)?;
        let node = |name: &Spanned<DeValue<'_>>| {
            let name = name.get_ref().as_str().ok_or_else(wrong)?;
            Ok(NodeId::new(name)?)
        };
        names.iter().map(node).collect()
    }

    pub(super) fn assign(&self, map: TopologyBuilder) -> Found<TopologyBuilder> {
        let node = self.text("node")?.ok_or_else(|| self.missing("node"))?;
        let (first, last): (u32, u32) = (self.number("first")?, self.number("last")?);
        if last < first {
            return Err(self.wrong("last", "first or later"));
        }
        let state = match self.text("state")? {
            None | Some("serving") => SlotState::Serving,
            Some("strict") => SlotState::Strict,
            Some("frozen") => SlotState::Frozen,
            Some(_) => return Err(self.wrong("state", "serving, strict or frozen")),
        };
        // The last number of all is in no keyspace, so it is refused there.
        let range = first..last.saturating_add(1);
        let map = map.assign(range.clone(), &NodeId::new(node)?);
        Ok(map.state(range, state))
    }

    pub(super) fn divert(&self, map: TopologyBuilder) -> Found<TopologyBuilder> {
        let key = self.text("key")?.ok_or_else(|| self.missing("key"))?;
        let region = self.text("region")?.map(|name| {
            let region = RegionId::new(name);
            region.ok_or_else(|| self.wrong("region", "a region's name"))
        });
        let region = region.transpose()?;
        let to = match (self.optional_number("shard")?, self.text("node")?) {
            (Some(shard), None) => Target::Shard(VirtualShard::new(shard)),
            (None, Some(node)) => Target::Node(NodeId::new(node)?),
            (None, None) => return Err(self.missing("shard or node")),
            (Some(_), Some(_)) => return Err(self.wrong("node", "given beside a shard")),
        };
        let key = Key::from(key);
        Ok(match &region {
            Some(region) => map.divert(key.within(region), to),
            None => map.divert(key, to),
        })
    }

    pub(super) fn text(&self, name: &'static str) -> Found<Option<&'t str>> {
        let text = |value: &&'t Spanned<DeValue<'t>>| {
            let text = value.get_ref().as_str();
            text.ok_or_else(|| self.wrong(name, "text"))
        };
        self.values.get(name).map(text).transpose()
    }

    pub(super) fn number<N: TryFrom<u64>>(&self, name: &'static str) -> Found<N> {
        self.optional_number(name)?
            .ok_or_else(|| self.missing(name))
    }

    pub(super) fn optional_number<N: TryFrom<u64>>(&self, name: &'static str) -> Found<Option<N>> {
        let number = |value: &&Spanned<DeValue<'_>>| {
            let DeValue::Integer(number) = value.get_ref() else {
                return None;
            };
            let number = u64::from_str_radix(number.as_str(), number.radix()).ok()?;
            N::try_from(number).ok()
        };
        let wrong = || self.wrong(name, "a number that fits");
        let value = self.values.get(name);
        value
            .map(|value| number(value).ok_or_else(wrong))
            .transpose()
    }

    fn missing(&self, name: &'static str) -> MapFileError {
        let line = line_of(self.text, self.start);
        MapFileError::Missing { line, name }
    }

    pub(super) fn wrong(&self, name: &'static str, wanted: &'static str) -> MapFileError {
        let start = self.values.get(name).map(|value| value.span().start);
        MapFileError::Wrong {
            line: line_of(self.text, start.unwrap_or(self.start)),
            name,
            wanted,
        }
    }
}

pub(super) fn line_of(text: &str, at: usize) -> usize {
    let before = text.as_bytes().iter().take(at);
    1 + before.filter(|byte| **byte == b'\n').count()
}
