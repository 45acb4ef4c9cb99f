//! Following the catalog's map: announcements as a hint, asking as the truth.

use std::collections::HashSet;
use std::mem::discriminant;
use std::sync::Arc;
use std::time::Duration;

use maxscale_core::Chain;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use super::keep::Keeper;
use super::patience::jitter;
use super::settle::Charter;
use super::{FleetError, MapProblem, MapStatus, NodeSpec, catalog, ready};
use crate::router::{Node, ReloadError, Router};
use crate::topology::{NodeId, Topology};

/// Keeps a router's map that of the catalog.
pub(super) struct Follower {
    router: Router,
    charter: Charter,
    specs: Vec<NodeSpec>,
    catalog: Node,
    cluster: Uuid,
    /// Whether the catalog itself was seen by now, and is what it has to be.
    settled: bool,
    hint: Arc<Notify>,
    status: watch::Sender<MapStatus>,
    keeper: Keeper,
    /// Nodes that somebody makes ready.
    tended: HashSet<NodeId>,
}

/// How long a lost listener is not missed.
const DEAF: Duration = Duration::from_secs(1);

// === impl Follower ===

impl Follower {
    /// Rung by `hint`, beside the catalog's own announcements.
    pub(super) fn new(
        router: Router,
        charter: Charter,
        (catalog, cluster): (Node, Uuid),
        (hint, keeper): (Arc<Notify>, Keeper),
        problem: Option<MapProblem>,
    ) -> (Self, watch::Receiver<MapStatus>) {
        let settled = problem.is_none();
        let (status, told) = watch::channel(MapStatus {
            epoch: router.topology().epoch(),
            confirmed: settled.then(Instant::now),
            problem,
        });
        let nodes = router.nodes();
        let follower = Self {
            specs: charter.specs().cloned().collect(),
            router,
            charter,
            catalog,
            cluster,
            settled,
            hint,
            status,
            keeper,
            tended: nodes.iter().map(|node| node.id().clone()).collect(),
        };
        (follower, told)
    }

    /// Runs until dropped. `late` are the nodes that the start left behind.
    pub(super) async fn run(mut self, mut late: JoinSet<()>) {
        // A process that runs on a map must be able to start on it.
        self.keeper.keep().await;
        let mut listening = JoinSet::new();
        listening.spawn(listen(self.catalog.clone(), self.hint.clone()));
        loop {
            let every = jitter(self.charter.config.poll);
            // Either way it is time for a look.
            let _ = timeout(every, self.hint.notified()).await;
            self.look().await;
            self.keeper.keep().await;
            self.tend(&mut late);
            while late.try_join_next().is_some() {}
        }
    }

    async fn look(&mut self) {
        let asked = Instant::now();
        let problem = self.ask().await.err();
        let epoch = self.router.topology().epoch();
        let before = self.status.borrow().problem.clone();
        match (&before, &problem) {
            (_, Some(now)) if before.as_ref().map(discriminant) != Some(discriminant(now)) => {
                tracing::warn!(%epoch, problem = %now, "the map in use is not confirmed");
            }
            (Some(_), None) => tracing::info!(%epoch, "the map in use is confirmed again"),
            _ => {}
        }
        self.status.send_modify(|status| {
            status.epoch = epoch;
            status.confirmed = problem.is_none().then_some(asked).or(status.confirmed);
            status.problem = problem;
        });
    }

    /// Takes the catalog's map if it is a newer one.
    async fn ask(&mut self) -> Result<(), MapProblem> {
        // Taken before the catalog is asked, so that it is not the newer one.
        let used = self.router.topology();
        let stored = self.stored().await.map_err(|error| match error {
            FleetError::Shard(error) if error.may_pass() => {
                MapProblem::Away(Chain(&error).to_string())
            }
            error => MapProblem::Refused(Chain(&error).to_string()),
        })?;
        let (cluster, stored) = stored.ok_or(MapProblem::Gone)?;
        if cluster != self.cluster {
            return Err(MapProblem::Foreign);
        }
        if let Some(problem) = MapProblem::between(&used, &stored) {
            return Err(problem);
        }
        let epoch = stored.epoch();
        if epoch > used.epoch() {
            match self.router.reload(stored, &self.specs) {
                Ok(()) => tracing::info!(%epoch, "took the catalog's map"),
                // This process changed it meanwhile.
                Err(ReloadError::Stale { .. }) => {}
                Err(error) => return Err(MapProblem::Refused(Chain(&error).to_string())),
            }
        }
        Ok(())
    }

    async fn stored(&mut self) -> Result<Option<(Uuid, Topology)>, FleetError> {
        if !self.settled {
            let again = self.charter.settle_again(&self.catalog).await?;
            self.settled = again.is_some();
            return Ok(again);
        }
        let catalog = self.catalog.database().background().called("catalog");
        let newest = catalog::newest(&catalog, &self.charter.keyspace);
        newest.await.map(Some)
    }

    /// Makes the nodes ready that a new map brought.
    fn tend(&mut self, late: &mut JoinSet<()>) {
        let nodes = self.router.nodes();
        let listed: HashSet<&NodeId> = nodes.iter().map(Node::id).collect();
        self.tended.retain(|id| listed.contains(id));
        for node in nodes.iter() {
            if !node.is_ready() && self.tended.insert(node.id().clone()) {
                ready::tend(late, node, &self.router, &self.charter.config, self.cluster);
            }
        }
    }
}

/// Rings `hint` whenever the catalog announces a map, where it can.
async fn listen(catalog: Node, hint: Arc<Notify>) {
    loop {
        // Asked for each time: another server may be the primary by now.
        match catalog.primary().announcements(catalog::CHANNEL).await {
            Ok(Some(mut announcements)) => {
                // Whatever was announced before is not.
                hint.notify_one();
                while announcements.next().await.is_ok() {
                    hint.notify_one();
                }
            }
            Ok(None) => return,
            Err(error) => tracing::debug!(error = %Chain(&error), "cannot listen to the catalog"),
        }
        sleep(jitter(DEAF)).await;
    }
}
