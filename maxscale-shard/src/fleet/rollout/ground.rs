//! The work of a rollout: look at every node, then visit them wave by wave.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use maxscale_core::Chain;
use tokio::task::JoinSet;
use tokio::time::Instant;
use uuid::Uuid;

use super::lease::{Done, Lease};
use super::{NodeRollout, Rollout, RolloutError, Waves};
use crate::database::{Database, Opener};
use crate::fleet::patience::Patience;
use crate::fleet::settle::Charter;
use crate::fleet::ways::Ways;
use crate::fleet::{FleetConfig, FleetError, Migrate, ready, schema};
use crate::migrate::{self, MigrationSet, Step, steps_of};
use crate::router::Node;
use crate::topology::Topology;

/// The nodes of a fleet that nobody is routed to yet.
pub(super) struct Ground {
    pub(super) charter: Charter,
    pub(super) nodes: Vec<Node>,
    pub(super) opener: Opener,
    start: Instant,
}

/// One node of a wave.
pub(super) struct Leg {
    pub(super) node: Node,
    pub(super) wave: usize,
    /// What was pending when all were looked at.
    pub(super) steps: Vec<Step>,
}

/// What became of a leg.
struct Visit {
    ran: Vec<Step>,
    left: Vec<Step>,
    failure: Option<FleetError>,
}

// === impl Leg ===

impl Leg {
    fn told(&self, ran: &[Step], left: &[Step], failure: Option<FleetError>) -> NodeRollout {
        NodeRollout::of(self.node.id(), self.wave, ran, left, failure)
    }
}

// === impl Ground ===

impl Ground {
    pub(super) fn of(config: FleetConfig) -> Result<Self, FleetError> {
        let start = Instant::now();
        let mut charter = Charter::of(config)?;
        charter.config.migrate = Migrate::Auto;
        // A copy of the map is for starts without the catalog, and this is none.
        charter.config.copy = None;
        let opener = Opener::new(charter.config.options).telling(&charter.config.telemetry);
        let mut nodes = Vec::new();
        for spec in charter.specs() {
            nodes.push(Node::open(spec, &opener, None)?);
        }
        Ok(Self {
            charter,
            nodes,
            opener,
            start,
        })
    }

    fn sets(&self) -> &[MigrationSet] {
        &self.charter.config.node_sets
    }

    /// When somebody who is away, or busy, is given up.
    pub(super) fn patience(&self) -> Patience {
        Patience::until(Instant::now() + self.charter.config.wait)
    }

    /// The nodes of `map`, in the order of the list.
    pub(super) fn listed(&self, map: &Topology) -> Vec<Node> {
        let listed = |node: &&Node| map.nodes().contains(node.id());
        self.nodes.iter().filter(listed).cloned().collect()
    }

    pub(super) async fn migrate(&self, waves: &Waves) -> Result<Rollout, RolloutError> {
        let found = (self.charter).find(&self.nodes, &self.opener, self.start);
        let found = found.await?;
        let catalog = Ways::to(&found.catalog).called("catalog");
        look(catalog.admin(), &[schema::CATALOG]).await?;
        let nodes = waves.split(self.listed(&found.topology))?;
        let lease = Lease::take(&catalog.database, waves.holder(), self.patience()).await?;
        let rollout = async {
            self.run(self.legs(nodes).await?, &lease, found.cluster)
                .await
        };
        let (mut rollout, mut kept) = (pin!(rollout), pin!(lease.keep()));
        let done = poll_fn(|cx| match rollout.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(done),
            Poll::Pending => kept.as_mut().poll(cx).map(Err),
        });
        let done = done.await;
        lease.release().await;
        found.catalog.close().await;
        done
    }

    /// Looks at every node before anything runs.
    pub(super) async fn legs(&self, nodes: Vec<(usize, Node)>) -> Result<Vec<Leg>, RolloutError> {
        let mut looks = JoinSet::new();
        for (at, (wave, node)) in nodes.into_iter().enumerate() {
            let (sets, patience) = (self.sets().to_vec(), self.patience());
            looks.spawn(async move {
                let looked = looked_at(&node, &sets, patience).await;
                (at, wave, node, looked)
            });
        }
        let mut looked = looks.join_all().await;
        looked.sort_by_key(|(at, ..)| *at);
        if looked.iter().all(|(.., looked)| looked.is_ok()) {
            let leg = |(_, wave, node, looked): (_, _, _, Result<_, _>)| {
                let steps = looked.ok()?;
                Some(Leg { node, wave, steps })
            };
            return Ok(looked.into_iter().filter_map(leg).collect());
        }
        let told = looked.into_iter().map(|(_, wave, node, looked)| {
            let (steps, failure) = match looked {
                Ok(steps) => (steps, None),
                Err(error) => (Vec::new(), Some(error)),
            };
            NodeRollout::of(node.id(), wave, &[], &steps, failure)
        });
        Err(RolloutError::Refused {
            rollout: Rollout::of(told.collect()),
        })
    }

    async fn run(
        &self,
        legs: Vec<Leg>,
        lease: &Lease,
        cluster: Uuid,
    ) -> Result<Rollout, RolloutError> {
        let (mut told, mut stopped) = (Vec::new(), None);
        for legs in legs.chunk_by(|one, other| one.wave == other.wave) {
            let wave = legs[0].wave;
            if stopped.is_some() {
                let unvisited = |leg: &Leg| leg.told(&[], &leg.steps, None);
                told.extend(legs.iter().map(unvisited));
                continue;
            }
            let visited = self.wave(legs, lease, cluster).await?;
            if visited.iter().any(|node| node.failure.is_some()) {
                stopped = Some(wave);
            }
            told.extend(visited);
        }
        let rollout = Rollout::of(told);
        match stopped {
            Some(wave) => Err(RolloutError::Stopped { wave, rollout }),
            None => Ok(rollout),
        }
    }

    /// Migrates the nodes of one wave, side by side.
    async fn wave(
        &self,
        legs: &[Leg],
        lease: &Lease,
        cluster: Uuid,
    ) -> Result<Vec<NodeRollout>, RolloutError> {
        lease.hold(self.patience()).await?;
        let mut visits = JoinSet::new();
        for (at, leg) in legs.iter().enumerate() {
            let visit = self.visit(leg, cluster);
            visits.spawn(async move { (at, visit.await) });
        }
        let mut visited = Vec::new();
        while let Some(visit) = visits.join_next().await {
            let (at, visit) = visit.expect("a visit neither panics nor is aborted");
            let (leg, Visit { ran, left, failure }) = (&legs[at], visit);
            let done = Done {
                node: leg.node.id(),
                wave: leg.wave,
                steps: steps_of(self.sets())
                    .filter(|step| !left.iter().any(|other| other.is(step)))
                    .map(|step| (step, ran.iter().any(|other| other.is(&step))))
                    .collect(),
            };
            lease.note(&done, self.patience()).await?;
            if let Some(error) = &failure {
                tracing::error!(node = %done.node, error = %Chain(error), "not migrated");
            }
            visited.push((at, leg.told(&ran, &left, failure)));
        }
        visited.sort_by_key(|(at, _)| *at);
        Ok(visited.into_iter().map(|(_, told)| told).collect())
    }

    /// Migrates one node.
    fn visit(&self, leg: &Leg, cluster: Uuid) -> impl Future<Output = Visit> + Send + use<> {
        let (node, before) = (leg.node.clone(), leg.steps.clone());
        let (sets, keyspace) = (self.sets().to_vec(), self.charter.keyspace.clone());
        let mut patience = self.patience();
        async move {
            let failure = loop {
                let done = ready::attempt(&node, &sets, Migrate::Auto, cluster, &keyspace).await;
                match done {
                    // What ran in an attempt before this one is no longer pending.
                    Ok(()) => {
                        return Visit {
                            ran: before,
                            left: Vec::new(),
                            failure: None,
                        };
                    }
                    Err(FleetError::Shard(error)) if error.may_pass() => {
                        if !patience.pause().await {
                            break error.into();
                        }
                    }
                    Err(error) => break error,
                }
            };
            let left = look(Ways::to(&node).admin(), &sets).await;
            let left = left.unwrap_or_else(|_| before.clone());
            let gone = |step: &Step| !left.iter().any(|other| other.is(step));
            Visit {
                ran: before.into_iter().filter(gone).collect(),
                left,
                failure: Some(failure),
            }
        }
    }

    pub(super) async fn close(&self) {
        for node in &self.nodes {
            node.close().await;
        }
    }
}

/// What is pending in a database, which is not changed and not made by it.
async fn look(database: &Database, sets: &[MigrationSet]) -> Result<Vec<Step>, FleetError> {
    if !database.is_made().await? {
        return Ok(migrate::checked(database, sets)?);
    }
    let mut conn = database.reader().await?;
    let standing = migrate::standing(&mut conn, database, sets).await?;
    Ok(standing.known(database)?)
}

/// As [`look`], of a node that may be away for a while.
pub(super) async fn looked_at(
    node: &Node,
    sets: &[MigrationSet],
    mut patience: Patience,
) -> Result<Vec<Step>, FleetError> {
    loop {
        // Asked for each time: another server may be the primary by now.
        match look(Ways::to(node).admin(), sets).await {
            Err(FleetError::Shard(error)) if error.may_pass() => {
                if !patience.pause().await {
                    return Err(error.into());
                }
            }
            looked => return looked,
        }
    }
}
