use std::sync::Arc;

use maxscale_core::fact::VirtualShard;
use maxscale_shard::{Epoch, SlotState, Topology};

/// The virtual shards that stand still while they move, by the newest map.
#[derive(Debug, Default)]
pub(super) struct Frozen {
    epoch: Option<Epoch>,
    shards: Arc<[i32]>,
}

// === impl Frozen ===

impl Frozen {
    /// Those of `map`; looked up when its epoch is another than before.
    pub(super) fn of(&mut self, map: &Topology) -> Arc<[i32]> {
        if self.epoch != Some(map.epoch()) {
            let frozen =
                |shard: &u32| map.state(VirtualShard::new(*shard)) == Some(SlotState::Frozen);
            let listed = (0..map.shards()).filter(frozen);
            self.shards = listed
                .filter_map(|shard| i32::try_from(shard).ok())
                .collect();
            self.epoch = Some(map.epoch());
        }
        self.shards.clone()
    }
}
