//! What a start has to know before it opens a node: whose fleet, and which map.

use std::sync::Arc;
use std::time::Duration;

use maxscale_core::Chain;
use tokio::time::Instant;
use uuid::Uuid;

use super::copy::{Home, MapCopy, Memory};
use super::patience::Patience;
use super::ways::{Mark, Ways};
use super::{FleetConfig, FleetError, MapProblem, NodeSpec, catalog, home, schema};
use crate::database::Opener;
use crate::error::ShardError;
use crate::keyspace::Keyspace;
use crate::residency::{Bound, Stand, spread};
use crate::router::Node;
use crate::topology::{NodeId, Topology};

/// With a copy of the map at hand, the catalog is waited for this long at most.
const WITH_A_COPY: Duration = Duration::from_secs(2);

/// What is configured, and the map of a first start.
#[derive(Clone, Debug)]
pub(super) struct Charter {
    pub(super) config: FleetConfig,
    pub(super) keyspace: Keyspace,
    pub(super) bound: Arc<Bound>,
    wanted: Topology,
}

/// What is known at the end of the start.
pub(super) struct Found {
    pub(super) catalog: Node,
    pub(super) cluster: Uuid,
    pub(super) topology: Topology,
    /// What the catalog remembers, as far as a copy tells.
    pub(super) memory: Memory,
    pub(super) problem: Option<MapProblem>,
}

// === impl Charter ===

impl Charter {
    pub(super) fn of(config: FleetConfig) -> Result<Self, FleetError> {
        let ids: Vec<NodeId> = config.nodes.iter().map(|node| node.id.clone()).collect();
        let wanted = Topology::even(ids, config.shards)?;
        let keyspace = Keyspace::new(config.tag, config.shards, config.vindex.clone())?;
        let stands = config.nodes.iter().chain(&config.spares);
        let stands: Vec<Stand> = stands.map(NodeSpec::stand).collect();
        let bound = Bound::new(&config.residency, &keyspace, &stands)?;
        let wanted = spread(&bound, wanted, &stands[..config.nodes.len()])?;
        let charter = Self {
            config,
            keyspace,
            bound: Arc::new(bound),
            wanted,
        };
        check_urls(&charter.specs().collect::<Vec<_>>())?;
        Ok(charter)
    }

    /// Every node that a map may name.
    pub(super) fn specs(&self) -> impl Iterator<Item = &NodeSpec> {
        self.config.nodes.iter().chain(&self.config.spares)
    }

    /// Finds the catalog and its map, or takes the copy of it while it is away.
    pub(super) async fn find(
        &self,
        nodes: &[Node],
        opener: &Opener,
        start: Instant,
    ) -> Result<Found, FleetError> {
        let apart = self.config.catalog.as_deref();
        let apart = apart.map(|url| home::apart(url, opener)).transpose()?;
        let listed = &nodes[..self.config.nodes.len()];
        if let Some(copy) = self.copy().await
            && let Some(catalog) = copy.home.among(apart.as_ref(), nodes)
            && let Some(found) = self.beside(copy, catalog, start).await?
        {
            return Ok(found);
        }
        let home = home::find(listed, apart.as_ref(), &self.config, start).await?;
        let catalog = apart.unwrap_or_else(|| listed[home].clone());
        let waited = self.config.wait;
        let mut patience = Patience::until(start + waited);
        let (cluster, topology) = loop {
            match self.settle(&catalog).await {
                Err(FleetError::Shard(source)) if source.may_pass() => {
                    if !another(&mut patience, &source).await {
                        return Err(FleetError::NoCatalog { waited, source });
                    }
                }
                settled => break settled?,
            }
        };
        Ok(Found {
            catalog,
            cluster,
            topology,
            memory: Memory::new(),
            problem: None,
        })
    }

    /// What the catalog and a copy of its map say together. None if the catalog is
    /// gone for good: only a first start makes one.
    async fn beside(
        &self,
        copy: MapCopy,
        catalog: Node,
        start: Instant,
    ) -> Result<Option<Found>, FleetError> {
        let mut patience = Patience::until(start + self.config.wait.min(WITH_A_COPY));
        let settled = loop {
            match self.settle_again(&catalog).await {
                Err(FleetError::Shard(source)) if source.may_pass() => {
                    if !another(&mut patience, &source).await {
                        break Err(source);
                    }
                }
                settled => break Ok(settled?),
            }
        };
        let mut memory = copy.memory;
        let (cluster, topology, problem) = match settled {
            Ok(None) => return Ok(None),
            Ok(Some((cluster, stored))) if cluster == copy.cluster => {
                match MapProblem::between(&copy.topology, &stored) {
                    // What runs elsewhere is at least as new as what ran here.
                    Some(problem) => (cluster, copy.topology, Some(problem)),
                    None => (cluster, stored, None),
                }
            }
            // What was here before is gone: each node says whose it is.
            Ok(Some((cluster, stored))) => {
                memory.clear();
                (cluster, stored, None)
            }
            Err(source) => {
                self.compare(&copy.topology)?;
                tracing::warn!(
                    error = %Chain(&source), epoch = %copy.topology.epoch(),
                    "the catalog is away; going on with the map that was kept"
                );
                let away = MapProblem::Away(Chain(&source).to_string());
                (copy.cluster, copy.topology, Some(away))
            }
        };
        Ok(Some(Found {
            catalog,
            cluster,
            topology,
            memory,
            problem,
        }))
    }

    async fn copy(&self) -> Option<MapCopy> {
        let path = self.config.copy.clone()?;
        MapCopy::read(path, &self.keyspace).await
    }

    /// As [`settle`](Self::settle), of a catalog that was there before; None if it is not.
    pub(super) async fn settle_again(
        &self,
        catalog: &Node,
    ) -> Result<Option<(Uuid, Topology)>, FleetError> {
        if home::holds(catalog).await? {
            self.settle(catalog).await.map(Some)
        } else {
            Ok(None)
        }
    }

    /// Migrates the catalog; gives what it remembers, which is what is configured.
    async fn settle(&self, catalog: &Node) -> Result<(Uuid, Topology), FleetError> {
        let catalog = Ways::to(catalog).called("catalog");
        let sets = &[schema::CATALOG];
        let mode = self.config.migrate;
        catalog.migrate(sets, mode, Mark::CATALOG).await?;
        let remembered = catalog::settle(&catalog.database, &self.keyspace, &self.wanted);
        let (cluster, stored) = remembered.await?;
        self.compare(&stored)?;
        catalog.lead_to_one(Mark::CATALOG).await?;
        Ok((cluster, stored))
    }

    /// Refuses a map of other nodes than those that are configured.
    fn compare(&self, stored: &Topology) -> Result<(), FleetError> {
        let spare = |id: &&NodeId| !self.config.spares.iter().any(|node| node.id == **id);
        let had: Vec<NodeId> = stored.nodes().iter().filter(spare).cloned().collect();
        catalog::compare(stored, &had, self.wanted.nodes())
    }
}

// === impl Home ===

impl Home {
    /// The catalog's node, if it is still configured to be there.
    fn among(&self, apart: Option<&Node>, nodes: &[Node]) -> Option<Node> {
        match (self, apart) {
            (Self::Apart, Some(apart)) => Some(apart.clone()),
            (Self::Node(id), None) => nodes.iter().find(|node| node.id() == id).cloned(),
            _ => None,
        }
    }
}

/// Waits for another attempt at the catalog. False if there is none.
async fn another(patience: &mut Patience, failed: &ShardError) -> bool {
    tracing::info!(error = %Chain(failed), "waiting for the catalog");
    patience.pause().await
}

/// Two nodes in one database would write over each other's name at the first start.
fn check_urls(nodes: &[&NodeSpec]) -> Result<(), FleetError> {
    for (at, node) in nodes.iter().enumerate() {
        let same = |other: &&&NodeSpec| other.urls().any(|url| node.urls().any(|own| own == url));
        if let Some(same) = nodes[..at].iter().find(same) {
            return Err(FleetError::WrongNode {
                expected: node.id.clone(),
                found: same.id.to_string(),
            });
        }
    }
    Ok(())
}
