use std::fmt;

use maxscale_core::fact::VirtualShard;

use super::Map;
use super::route::{Route, Why};
use crate::error::ShardError;
use crate::key::Key;
use crate::keyspace::Keyspace;
use crate::topology::NodeId;

/// Where a key lies and why. `Display` tells it in a few lines, without the key,
/// which may be nobody's business.
#[derive(Clone, Debug)]
pub struct Explanation {
    route: Route,
    keyspace: Keyspace,
    own_shard: VirtualShard,
    own_node: NodeId,
}

// === impl Explanation ===

impl Explanation {
    pub(super) fn of(keyspace: &Keyspace, map: &Map, key: Key<'_>) -> Result<Self, ShardError> {
        let own_shard = keyspace.shard(key)?;
        let own_node = map.place(own_shard)?.node.id().clone();
        Ok(Self {
            route: Route::of(keyspace, map, key)?,
            keyspace: keyspace.clone(),
            own_shard,
            own_node,
        })
    }

    /// Where the key lies.
    pub const fn route(&self) -> &Route {
        &self.route
    }

    /// The keyspace, with its vindex.
    pub const fn keyspace(&self) -> &Keyspace {
        &self.keyspace
    }

    /// Where the key would lie without an override.
    pub const fn own_shard(&self) -> VirtualShard {
        self.own_shard
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (route, own) = (&self.route, self.own_shard);
        let ready = if route.node().is_ready() {
            "ready"
        } else {
            "not ready"
        };
        writeln!(f, "virtual shard {}", route.virtual_shard())?;
        writeln!(f, "node          {}, {ready}", route.node().id())?;
        write!(f, "because       ")?;
        match route.why() {
            Why::Id => writeln!(f, "the id carries it")?,
            Why::Vindex => writeln!(f, "the vindex {} gives it", self.keyspace.vindex())?,
            Why::OverrideShard => writeln!(f, "an override says so, in place of {own}")?,
            Why::OverrideNode => {
                writeln!(
                    f,
                    "an override names the node, in place of {}",
                    self.own_node
                )?;
            }
        }
        writeln!(f, "state         {}", route.state())?;
        write!(
            f,
            "map           epoch {} of the {}",
            route.epoch(),
            self.keyspace
        )
    }
}
