//! Migrating every node in waves, the canary first.
//!
//! ```text
//!  catalog's own set ─ look at every node ─ take the lease ─ canary ─ wave ─ wave ─ …
//!                      (edited, newer,                        └ each node: its sets, its ledger
//!                       away: nothing runs)                     then a line in the catalog's
//! ```
//!
//! What a node's own ledger says is the truth; the catalog's tells which wave it
//! was, who did it and when. So a rollout that was killed is resumed by starting
//! it again: the waves are the same, and what ran is passed over.

mod error;
mod ground;
mod lease;
mod plan;
mod report;

use std::num::NonZeroUsize;

use super::{Fleet, FleetConfig};
use crate::error::ShardError;
use crate::router::Node;
use crate::topology::NodeId;

pub use error::RolloutError;
pub use lease::DoneStep;
pub use plan::{Plan, PlannedNode, PlannedStep};
pub use report::{NodeRollout, Rollout};

use ground::Ground;

/// In which order the nodes are migrated, and how many at once.
///
/// The first wave is one node, the canary. The next are of twice as many nodes
/// each, two, four, eight, unless a width is given.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Waves {
    canary: Option<NodeId>,
    width: Option<NonZeroUsize>,
    by: Option<String>,
}

// === impl Waves ===

impl Waves {
    /// The node that is listed first is the canary, and each wave twice as wide.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the node that is migrated first. Default: the one listed first.
    pub fn canary(mut self, node: NodeId) -> Self {
        self.canary = Some(node);
        self
    }

    /// Sets how many nodes each wave after the canary has. Default: twice as many
    /// as the one before.
    pub const fn width(mut self, nodes: NonZeroUsize) -> Self {
        self.width = Some(nodes);
        self
    }

    /// Sets who is said to have run it. Default: the process by its number.
    pub fn by(mut self, name: impl Into<String>) -> Self {
        self.by = Some(name.into());
        self
    }

    fn holder(&self) -> String {
        let process = || format!("process {}", std::process::id());
        self.by.clone().unwrap_or_else(process)
    }

    /// The number of each node's wave, from 1, in the order they are visited.
    fn split(&self, mut nodes: Vec<Node>) -> Result<Vec<(usize, Node)>, RolloutError> {
        if let Some(canary) = &self.canary {
            let at = nodes.iter().position(|node| node.id() == canary);
            let at = at.ok_or_else(|| RolloutError::Unknown {
                node: canary.clone(),
            })?;
            nodes[..=at].rotate_right(1);
        }
        let (mut wave, mut width, mut left) = (1, 1, 1);
        let numbered = nodes.into_iter().map(|node| {
            if left == 0 {
                wave += 1;
                width = self.width.map_or(width * 2, NonZeroUsize::get);
                left = width;
            }
            left -= 1;
            (wave, node)
        });
        Ok(numbered.collect())
    }
}

// === impl Fleet ===

impl Fleet {
    /// Tells what [`migrate`](Self::migrate) would run where, in which wave, and
    /// writes nothing.
    ///
    /// # Errors
    ///
    /// Returns [`RolloutError`] where it would find the same before its first step.
    pub async fn plan(config: FleetConfig, waves: &Waves) -> Result<Plan, RolloutError> {
        let ground = Ground::of(config)?;
        let planned = plan::plan(&ground, waves).await;
        ground.close().await;
        planned
    }

    /// Runs every pending step on every node, in waves, and ends. The catalog
    /// comes first, with its own set; within a wave nodes go side by side; a node
    /// that fails ends it before the next wave.
    ///
    /// Nothing runs before every node was seen: one that is away, or whose ledger
    /// does not fit this program, ends it at once. Of several starters one goes
    /// on, and the others wait for it as long as [`FleetConfig::wait`] says.
    ///
    /// Services that start meanwhile have to be told not to migrate on their own
    /// ([`Migrate::Check`](super::Migrate::Check)), or they do not heed the waves.
    ///
    /// # Errors
    ///
    /// Returns [`RolloutError`], which tells which nodes have what.
    ///
    /// # Cancellation
    ///
    /// Dropped or killed, it leaves each step done or not begun, and is resumed by
    /// calling it again, which waits up to 10 seconds for the one that is gone.
    ///
    /// # Examples: all nodes, ten at once after the canary
    ///
    /// ```
    /// # use std::num::NonZeroUsize;
    /// # use maxscale_shard::{Fleet, FleetConfig, fleet::{Rollout, RolloutError, Waves}};
    /// # async fn roll_out(config: FleetConfig) -> Result<Rollout, RolloutError> {
    /// let waves = Waves::new().width(NonZeroUsize::new(10).expect("ten is not zero"));
    /// Fleet::migrate(config, &waves).await
    /// # }
    /// ```
    pub async fn migrate(config: FleetConfig, waves: &Waves) -> Result<Rollout, RolloutError> {
        let ground = Ground::of(config)?;
        let done = Box::pin(ground.migrate(waves)).await;
        ground.close().await;
        done
    }

    /// What rollouts did: which step ran where, in which wave, by whom and when.
    ///
    /// # Errors
    ///
    /// Returns [`ShardError`] when the catalog cannot be asked.
    pub async fn rolled_out(&self) -> Result<Vec<DoneStep>, ShardError> {
        lease::history(&self.catalog()).await
    }
}
