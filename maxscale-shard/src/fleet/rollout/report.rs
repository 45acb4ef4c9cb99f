use std::fmt;

use maxscale_core::Chain;

use crate::fleet::FleetError;
use crate::migrate::Step;
use crate::topology::NodeId;

/// What a rollout did, node by node in the order of the waves. Displays as
/// lines for a person.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Rollout {
    /// The nodes.
    pub nodes: Vec<NodeRollout>,
}

/// What a rollout did on one node.
#[derive(Debug)]
#[non_exhaustive]
pub struct NodeRollout {
    /// The node.
    pub node: NodeId,
    /// Its wave, from 1, which is the canary's.
    pub wave: usize,
    /// The steps that ran, as `owner/version name`.
    pub ran: Vec<String>,
    /// The steps that did not.
    pub pending: Vec<String>,
    /// Why not, where it was tried.
    pub failure: Option<FleetError>,
}

// === impl Rollout ===

impl Rollout {
    pub(super) const fn of(nodes: Vec<NodeRollout>) -> Self {
        Self { nodes }
    }

    /// The nodes that failed, for a sentence.
    pub(super) fn failed(&self) -> String {
        let failed = self.nodes.iter().filter(|node| node.failure.is_some());
        let names: Vec<&str> = failed.map(|node| node.node.as_str()).collect();
        names.join(", ")
    }
}

impl fmt::Display for Rollout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut wave = 0;
        for node in &self.nodes {
            if node.wave != wave {
                wave = node.wave;
                heading(f, wave)?;
            }
            writeln!(f, "  {node}")?;
        }
        Ok(())
    }
}

pub(super) fn heading(f: &mut fmt::Formatter<'_>, wave: usize) -> fmt::Result {
    match wave {
        1 => writeln!(f, "wave 1, the canary"),
        _ => writeln!(f, "wave {wave}"),
    }
}

// === impl NodeRollout ===

impl NodeRollout {
    pub(super) fn of(
        node: &NodeId,
        wave: usize,
        ran: &[Step],
        pending: &[Step],
        failure: Option<FleetError>,
    ) -> Self {
        let names = |steps: &[Step]| steps.iter().map(ToString::to_string).collect();
        Self {
            node: node.clone(),
            wave,
            ran: names(ran),
            pending: names(pending),
            failure,
        }
    }
}

impl fmt::Display for NodeRollout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.node)?;
        let mut parts = Vec::new();
        if let Some(failure) = &self.failure {
            parts.push(format!("failed: {}", Chain(failure)));
        }
        if !self.ran.is_empty() {
            parts.push(format!("ran {}", self.ran.join(", ")));
        }
        if !self.pending.is_empty() {
            parts.push(format!("pending {}", self.pending.join(", ")));
        }
        if parts.is_empty() {
            parts.push("nothing was pending".to_owned());
        }
        f.write_str(&parts.join("; "))
    }
}
