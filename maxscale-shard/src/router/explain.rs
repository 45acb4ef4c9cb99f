use std::fmt;
use std::sync::Arc;

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
    pins: Vec<String>,
}

// === impl Explanation ===

impl Explanation {
    pub(super) fn of(
        keyspace: &Keyspace,
        map: &Map,
        key: Key<'_>,
        tables: &[Arc<str>],
    ) -> Result<Self, ShardError> {
        let (own_shard, name) = keyspace.read(key)?;
        let own_node = usize::from(map.slot(own_shard)?.node);
        let route = Route::of(keyspace, map, key, tables)?;
        let residency = &map.residency;
        let pins = residency.of_key(own_shard, route.virtual_shard(), name);
        Ok(Self {
            keyspace: keyspace.clone(),
            own_shard,
            own_node: map.nodes[own_node].id().clone(),
            pins: pins.iter().map(|pin| residency.tell_pin(*pin)).collect(),
            route,
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
        for pin in &self.pins {
            writeln!(f, "residency     {pin}")?;
        }
        if let Some(outside) = route.outside() {
            writeln!(f, "refused       {outside}")?;
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
