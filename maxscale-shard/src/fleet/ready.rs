use maxscale_core::Chain;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use super::identity::recognise;
use super::patience::Patience;
use super::ways::{Mark, Ways};
use super::{FleetConfig, FleetError, Migrate};
use crate::keyspace::Keyspace;
use crate::migrate::MigrationSet;
use crate::router::{Node, Router};

/// Readies the nodes side by side; returns once each was tried and one is ready.
pub(super) async fn ready(
    router: &Router,
    config: &FleetConfig,
    cluster: Uuid,
    start: Instant,
) -> Result<JoinSet<()>, FleetError> {
    let (report, mut reports) = mpsc::unbounded_channel();
    let mut tasks = JoinSet::new();
    let nodes = router.nodes();
    for (at, node) in nodes.iter().enumerate() {
        let late = Late::new(node, router, config, cluster);
        let report = report.clone();
        tasks.spawn(late.run(move |tried| {
            // Nobody listens once the start is over; the log has it.
            let _ = report.send((at, tried));
        }));
    }
    drop(report);

    let (mut untried, mut last) = (vec![true; nodes.len()], None);
    let one_ready = || nodes.iter().any(Node::is_ready);
    while untried.contains(&true) || !one_ready() {
        match timeout_at(start + config.wait, reports.recv()).await {
            Ok(Some((at, Ok(())))) => untried[at] = false,
            Ok(Some((at, Err(FleetError::Shard(error))))) if error.is_unreachable() => {
                untried[at] = false;
                last = Some(error);
            }
            // It is there: slow, or another process migrates it. So it is waited for.
            Ok(Some((_, Err(FleetError::Shard(error))))) if error.may_pass() => last = Some(error),
            Ok(Some((_, Err(error)))) => return Err(error),
            Ok(None) | Err(_) if one_ready() => break,
            Ok(None) | Err(_) => {
                return Err(FleetError::NoNode {
                    waited: config.wait,
                    source: last,
                });
            }
        }
    }
    Ok(tasks)
}

/// Readies one node that a new map brought.
pub(super) fn tend(
    tasks: &mut JoinSet<()>,
    node: &Node,
    router: &Router,
    config: &FleetConfig,
    cluster: Uuid,
) {
    tasks.spawn(Late::new(node, router, config, cluster).run(drop));
}

/// One node on its way to being ready.
struct Late {
    node: Node,
    keyspace: Keyspace,
    sets: Vec<MigrationSet>,
    mode: Migrate,
    cluster: Uuid,
}

impl Late {
    fn new(node: &Node, router: &Router, config: &FleetConfig, cluster: Uuid) -> Self {
        Self {
            node: node.clone(),
            keyspace: router.whole_keyspace().clone(),
            sets: config.node_sets.clone(),
            mode: config.migrate,
            cluster,
        }
    }

    async fn run(self, report: impl Fn(Result<(), FleetError>)) {
        let node = self.node.id();
        let (mut told, mut patience) = (None, Patience::without_end());
        loop {
            let (sets, keyspace) = (&self.sets, &self.keyspace);
            let tried = attempt(&self.node, sets, self.mode, self.cluster, keyspace).await;
            let done = tried.is_ok();
            if done {
                self.node.set_ready();
            }
            match (&tried, &told) {
                (Ok(()), Some(_)) => tracing::info!(node = %node, "node is ready"),
                (Ok(()), None) => {}
                // Each new reason once: a node that is back may be the wrong one.
                (Err(error), told_text) => {
                    let text = Chain(error).to_string();
                    if told_text.as_ref() != Some(&text) {
                        tracing::warn!(node = %node, error = %text, "node is not ready; its keys are refused until it is");
                        told = Some(text);
                    }
                }
            }
            report(tried);
            if done {
                return;
            }
            patience.pause().await;
        }
    }
}

/// Migrates and recognises one node, once.
pub(super) async fn attempt(
    node: &Node,
    sets: &[MigrationSet],
    mode: Migrate,
    cluster: Uuid,
    keyspace: &Keyspace,
) -> Result<(), FleetError> {
    // Asked for each time: another server may be the primary by now.
    let ways = Ways::to(node);
    ways.migrate(sets, mode, Mark::NODE).await?;
    recognise(&ways.database, node.id(), cluster, keyspace).await?;
    ways.lead_to_one(Mark::NODE).await
}
