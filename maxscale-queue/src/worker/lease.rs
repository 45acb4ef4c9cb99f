//! Where a worker stands on a node, and what becomes of the jobs of those who died there.

use maxscale_core::Chain;
use maxscale_shard::{Node, ShardError};
use tokio::sync::watch;
use tokio::time::{Duration, sleep};

use super::keeper::Keeper;
use super::node::NodeWorker;
use super::pacemaker::Beating;
use super::standing::Life;
use super::{Phase, race, reached};
use crate::store;

/// How soon the jobs of a dead worker are found, at most.
const SWEEP: Duration = Duration::from_secs(1);
const SWEEP_BATCH: u32 = 1_000;

impl NodeWorker {
    /// Begins a life on the node; none if the worker drains before one began.
    pub(super) async fn enter(
        &self,
        node: &Node,
        phase: &mut watch::Receiver<Phase>,
    ) -> Option<Beating> {
        let (end, ended) = watch::channel(false);
        let keeper = Keeper {
            node: node.clone(),
            standing: self.standing.clone(),
            lease: self.shared.lease,
            own: None,
            lived: false,
            ends: ended,
        };
        let beating = self.shared.pacemaker.spawn(end, keeper.run());
        let draining = async {
            reached(phase, Phase::Draining).await;
            false
        };
        let entered = async {
            self.standing.safe().await;
            true
        };
        if race(draining, entered).await {
            return Some(beating);
        }
        beating.stop().await;
        self.leave(node).await;
        None
    }

    /// Says that the runtime runs.
    pub(super) async fn signs(&self) {
        loop {
            self.standing.sign();
            sleep(self.shared.lease.mul_f64(0.25)).await;
        }
    }

    /// Ends this life, unless a job is left that its handler would not let go.
    pub(super) async fn leave(&self, node: &Node) {
        let Life { worker, .. } = self.standing.life();
        if worker.is_nil() || !self.standing.held().is_empty() {
            return;
        }
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
        store::stop(&database, SWEEP_BATCH).await?;
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
