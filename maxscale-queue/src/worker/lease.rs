//! Keeps a worker alive on a node, and frees the jobs of those who died there.

use maxscale_core::Chain;
use maxscale_shard::{Node, ShardError};
use tokio::sync::watch;
use tokio::time::{Duration, Instant, MissedTickBehavior, interval_at, sleep};
use uuid::Uuid;

use super::node::{NodeWorker, PAUSE};
use super::standing::Life;
use super::{Phase, race, reached};
use crate::store;

/// How soon the jobs of a dead worker are found, at most.
const SWEEP: Duration = Duration::from_secs(1);
const SWEEP_BATCH: u32 = 1_000;

impl NodeWorker {
    /// Begins a life on the node; false if the worker drains before one began.
    pub(super) async fn enter(&self, node: &Node, phase: &mut watch::Receiver<Phase>) -> bool {
        let draining = async {
            reached(phase, Phase::Draining).await;
            false
        };
        let entered = async {
            while let Err(error) = self.begin_life(node).await {
                tracing::warn!(node = %node.id(), error = %Chain(&error), "cannot begin to work");
                sleep(PAUSE).await;
            }
            true
        };
        race(draining, entered).await
    }

    pub(super) async fn renewals(&self, node: &Node) {
        let every = self.shared.lease.mul_f64(0.3);
        let mut ticks = interval_at(Instant::now() + every, every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            while let Err(error) = self.renew(node).await {
                tracing::warn!(node = %node.id(), error = %Chain(&error), "cannot renew the lease");
                sleep(PAUSE).await;
            }
        }
    }

    async fn renew(&self, node: &Node) -> Result<(), ShardError> {
        let Life { worker, .. } = self.standing.life();
        // Taken before the database takes its time, so it is the earlier one.
        let until = self.shared.safe_until(Instant::now());
        if store::renew(&node.background(), worker, self.shared.lease).await? {
            self.standing.live(Life { worker, until });
            return Ok(());
        }
        tracing::warn!(node = %node.id(), "the lease was lost, and all jobs under it");
        self.begin_life(node).await
    }

    async fn begin_life(&self, node: &Node) -> Result<(), ShardError> {
        let worker = Uuid::new_v4();
        let until = self.shared.safe_until(Instant::now());
        store::enter(&node.background(), worker, self.shared.lease).await?;
        self.standing.live(Life { worker, until });
        Ok(())
    }

    /// Ends this life, unless a job is left that its handler would not let go.
    pub(super) async fn leave(&self, node: &Node) {
        if !self.standing.held().is_empty() {
            return;
        }
        let Life { worker, .. } = self.standing.life();
        if let Err(error) = store::leave(&node.background(), worker).await {
            tracing::debug!(node = %node.id(), error = %Chain(&error), "the lease will run out");
        }
    }

    pub(super) async fn sweeps(&self, node: &Node) {
        let every = SWEEP.min(self.shared.lease);
        loop {
            sleep(every.mul_f64(0.8 + 0.2 * (self.shared.random)())).await;
            if let Err(error) = self.sweep(node).await {
                tracing::warn!(node = %node.id(), error = %Chain(&error), "cannot look for jobs of the dead");
            }
        }
    }

    async fn sweep(&self, node: &Node) -> Result<(), ShardError> {
        let database = node.background();
        store::expire(&database, SWEEP_BATCH).await?;
        store::prune(&database, SWEEP_BATCH).await?;
        store::bury(&database).await?;
        let rescued = store::rescue(&database, SWEEP_BATCH).await?;
        for rescued in rescued.iter().filter(|rescued| rescued.poison) {
            self.shared.counts.dead.add(1);
            tracing::error!(kind = rescued.kind, job_id = %rescued.job, "dead: its workers died");
        }
        let strays = {
            let _no_claim = self.claiming.lock().await;
            let held = self.standing.held();
            store::give_back(&database, self.standing.life().worker, &held).await?
        };
        if strays > 0 {
            tracing::warn!(node = %node.id(), strays, "gave back jobs that nobody here knew of");
        }
        if strays > 0 || !rescued.is_empty() {
            self.queue.ring(self.node);
        }
        Ok(())
    }
}
