mod fields;

use std::str::FromStr;

use maxscale_core::id::KeyspaceTag;
use toml::de::DeTable;

use super::{Epoch, Topology, TopologyError};
use crate::keyspace::{Keyspace, KeyspaceError};
use crate::vindex::VindexError;
use fields::{Fields, line_of};

/// A keyspace and its map, written down in TOML. URLs are no part of it.
///
/// # Examples: a map of two nodes, with one tenant that was moved
///
/// ```
/// use maxscale_shard::MapFile;
///
/// let file: MapFile = r#"
///     epoch = 7                 # rises with each change
///     nodes = ["eu-1", "us-1"]  # in the order of their first listing
///
///     [keyspace]                # fixed for ever; this is the default but for the vindex
///     tag = 0
///     shards = 1024
///     vindex = "region:eu=0+512,us=512+512"
///
///     [[slots]]
///     node = "eu-1"
///     first = 0
///     last = 511
///
///     [[slots]]
///     node = "us-1"
///     first = 512
///     last = 1023
///     state = "serving"         # the default; or strict, frozen
///
///     [[override]]
///     key = "acme"
///     region = "eu"             # where the vindex is by region
///     shard = 17                # or node = "eu-1"
/// "#.parse()?;
/// assert_eq!(file.topology.epoch().get(), 7);
/// # Ok::<(), maxscale_shard::MapFileError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MapFile {
    /// What is fixed for ever.
    pub keyspace: Keyspace,
    /// The map, which fits the keyspace.
    pub topology: Topology,
}

/// A file that is no map.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MapFileError {
    /// The text is not TOML.
    #[error("line {line}: {message}")]
    Syntax {
        /// The line, from 1.
        line: usize,
        /// What the parser says.
        message: String,
    },
    /// A key that has no meaning here.
    #[error("line {line}: there is no {name} here")]
    Unknown {
        /// The line, from 1.
        line: usize,
        /// The key.
        name: String,
    },
    /// A key that must be there.
    #[error("line {line}: {name} is missing")]
    Missing {
        /// The line, from 1, where it belongs.
        line: usize,
        /// The key.
        name: &'static str,
    },
    /// A value of the wrong kind.
    #[error("line {line}: {name} is not {wanted}")]
    Wrong {
        /// The line, from 1.
        line: usize,
        /// The key.
        name: &'static str,
        /// What is expected.
        wanted: &'static str,
    },
    /// The keyspace cannot be.
    #[error(transparent)]
    Keyspace(#[from] KeyspaceError),
    /// There is no such vindex.
    #[error(transparent)]
    Vindex(#[from] VindexError),
    /// The map cannot be.
    #[error(transparent)]
    Topology(#[from] TopologyError),
}

type Found<T> = Result<T, MapFileError>;

// === impl MapFile ===

impl FromStr for MapFile {
    type Err = MapFileError;

    fn from_str(text: &str) -> Found<Self> {
        let table = DeTable::parse(text).map_err(|error| MapFileError::Syntax {
            line: line_of(text, error.span().map_or(0, |span| span.start)),
            message: error.message().to_owned(),
        })?;
        let names = ["epoch", "nodes", "keyspace", "slots", "override"];
        let file = Fields::of(text, 0, table.get_ref(), &names)?;
        let keyspace = match file.tables("keyspace", &["tag", "shards", "vindex"])?.pop() {
            Some(fields) => keyspace(&fields)?,
            None => Keyspace::default(),
        };
        let mut map = Topology::builder(file.nodes()?, keyspace.shards());
        map = map.epoch(Epoch::new(file.number("epoch")?));
        for slots in file.tables("slots", &["node", "first", "last", "state"])? {
            map = slots.assign(map)?;
        }
        for over in file.tables("override", &["key", "region", "shard", "node"])? {
            map = over.divert(map)?;
        }
        let topology = map.build()?;
        topology.fits(&keyspace)?;
        Ok(Self { keyspace, topology })
    }
}

fn keyspace(fields: &Fields<'_>) -> Found<Keyspace> {
    let default = Keyspace::default();
    let tag = match fields.optional_number::<u8>("tag")? {
        Some(tag) => {
            KeyspaceTag::new(tag).ok_or_else(|| fields.wrong("tag", "a number from 0 to 31"))?
        }
        None => default.tag(),
    };
    let shards = fields.optional_number("shards")?;
    let vindex = match fields.text("vindex")? {
        Some(name) => name.parse()?,
        None => default.vindex().clone(),
    };
    Ok(Keyspace::new(
        tag,
        shards.unwrap_or(default.shards()),
        vindex,
    )?)
}

#[cfg(test)]
mod tests {
    use maxscale_core::fact::{RegionId, VirtualShard};

    use super::*;
    use crate::key::Key;
    use crate::topology::{NodeId, SlotState, Target};
    use crate::vindex::RegionsError;

    const MAP: &str = r#"
epoch = 7
nodes = ["eu-1", "us-1"]

[keyspace]
tag = 3
shards = 8
vindex = "region:eu=0+4,us=4+4"

[[slots]]
node = "eu-1"
first = 0
last = 3

[[slots]]
node = "us-1"
first = 4
last = 7
state = "strict"

[[override]]
key = "acme"
region = "eu"
shard = 2

[[override]]
key = "beta"
region = "us"
node = "eu-1"
"#;

    /// What is said of the map in which `old` stands as `new`.
    fn refused(old: &str, new: &str) -> String {
        assert!(MAP.contains(old), "{old}");
        let refused = MAP.replacen(old, new, 1).parse::<MapFile>();
        refused.unwrap_err().to_string()
    }

    #[test]
    fn file_is_read_into_a_keyspace_and_a_map() {
        let MapFile { keyspace, topology } = MAP.parse().unwrap();
        assert_eq!((keyspace.tag().get(), keyspace.shards()), (3, 8));
        assert_eq!(keyspace.vindex().to_string(), "region:eu=0+4,us=4+4");
        let (eu, us) = (NodeId::new("eu-1").unwrap(), NodeId::new("us-1").unwrap());
        let in_region = |name| RegionId::new(name).unwrap();
        let map = Topology::builder([eu.clone(), us.clone()], 8)
            .epoch(Epoch::new(7))
            .assign(0..4, &eu)
            .assign(4..8, &us)
            .divert(
                Key::from("acme").within(&in_region("eu")),
                Target::Shard(VirtualShard::new(2)),
            )
            .divert(Key::from("beta").within(&in_region("us")), Target::Node(eu));
        let map = map.state(4..8, SlotState::Strict);
        assert_eq!(topology, map.build().unwrap());
    }

    #[test]
    fn keyspace_is_the_default_one_where_none_is_written() {
        let text = "epoch = 1\nnodes = ['a']\n[[slots]]\nnode = 'a'\nfirst = 0\nlast = 1023";
        let file: MapFile = text.parse().unwrap();
        assert_eq!(file.keyspace, Keyspace::default());
    }

    #[test]
    fn refusal_names_the_line() {
        assert!(refused("epoch = 7", "epoch = ").starts_with("line 2: "));
        assert_eq!(
            refused("epoch = 7", "epoch = -7"),
            "line 2: epoch is not a number that fits"
        );
        assert_eq!(refused("epoch = 7\n", "\n"), "line 1: epoch is missing");
        assert_eq!(
            refused("tag = 3", "tag = 32"),
            "line 6: tag is not a number from 0 to 31"
        );
        assert_eq!(
            refused("first = 4", "frist = 4"),
            "line 17: there is no frist here"
        );
        assert_eq!(refused("first = 4\n", "\n"), "line 15: first is missing");
        assert_eq!(
            refused("last = 7", "last = 3"),
            "line 18: last is not first or later"
        );
        assert_eq!(
            refused("\"strict\"", "\"stuck\""),
            "line 19: state is not serving, strict or frozen"
        );
        assert_eq!(
            refused("[[slots]]", "[[slot]]"),
            "line 10: there is no slot here"
        );
        assert_eq!(
            refused("shard = 2", "shard = 2\nnode = \"eu-1\""),
            "line 25: node is not given beside a shard"
        );
        assert_eq!(
            refused("shard = 2", ""),
            "line 21: shard or node is missing"
        );
    }

    #[test]
    fn gap_overlap_unknown_node_and_a_key_out_of_its_region_are_refused() {
        assert_eq!(
            refused("first = 4", "first = 5"),
            "virtual shard 4 lies on no node"
        );
        assert_eq!(
            refused("first = 4", "first = 3"),
            "virtual shard 3 lies on eu-1 and on us-1"
        );
        assert_eq!(
            refused("node = \"us-1\"", "node = \"us-2\""),
            "node us-2 is not listed"
        );
        assert!(refused("last = 7", "last = 4294967295").contains("outside the map of 8"));
        assert_eq!(
            refused("shard = 2", "shard = 4"),
            "an override takes \"acme\" out of eu"
        );
        let beyond = MAP.replacen("us=4+4", "us=4+5", 1).parse::<MapFile>();
        assert!(matches!(
            beyond,
            Err(MapFileError::Keyspace(KeyspaceError::Regions(
                RegionsError::Beyond { .. }
            )))
        ));
    }
}
