//! A pass over all nodes that ends what nobody else does.

use std::collections::HashSet;
use std::time::Duration;

use maxscale_core::Chain;

use super::gid::Gid;
use super::prepared::{self, Prepared};
use super::{Decision, TwoPhase, decision};
use crate::database::Database;
use crate::error::ShardError;
use crate::router::Node;

/// What a recovery pass found and did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Resolved {
    /// Prepared transactions that it committed.
    pub committed: u64,
    /// Prepared transactions that it rolled back.
    pub rolled_back: u64,
    /// Prepared transactions that are too young to be looked at.
    pub young: u64,
    /// Prepared transactions that stay: their coordinator is at work, or the
    /// deciding node or their own could not be asked.
    pub in_doubt: u64,
    /// The age of the oldest of these.
    pub oldest: Duration,
    /// Prepared transactions whose name begins as ours do, and that this version
    /// of the program did not write. They stay.
    pub foreign: u64,
    /// Nodes that could not be asked what waits there.
    pub away: u64,
}

/// The most decisions of a node that a pass looks at.
const PASS: u32 = 1_000;

impl TwoPhase {
    /// Ends every prepared transaction that is older than [`TwoPhase::age`], as was
    /// decided, on all nodes of the map. Call it every few seconds, from any
    /// process or from all.
    ///
    /// A node that is away costs its own and what was decided on it; the pass goes
    /// on, counts and logs them.
    pub async fn recover(&self) -> Resolved {
        let mut resolved = Resolved::default();
        let nodes = self.router.nodes();
        let mut decided = Vec::new();
        for node in nodes.iter() {
            // Before what is prepared is listed: a decision comes after the last of that.
            let open = self.decisions(node).await;
            decided.extend(open.into_iter().flatten().map(|open| (node, open)));
        }
        let mut left = HashSet::new();
        for node in nodes.iter() {
            let listed = match prepares(node).await {
                Ok(false) => continue,
                Ok(true) => prepared::list(&node.background()).await,
                Err(error) => Err(error),
            };
            match listed {
                Ok(listed) => {
                    for prepared in listed {
                        self.resolve(node, &prepared, &mut resolved, &mut left)
                            .await;
                    }
                }
                Err(error) => {
                    resolved.away += 1;
                    told(node, None, &error);
                }
            }
        }
        if resolved.away == 0 {
            for (node, decision) in decided {
                if !left.contains(&decision)
                    && let Err(error) = decision.finish(&node.background()).await
                {
                    told(node, None, &error);
                }
            }
        }
        self.counts.passed(&resolved);
        resolved
    }

    /// The decisions on `node` of which something may be left.
    async fn decisions(&self, node: &Node) -> Option<Vec<Decision>> {
        let looked = async {
            if !prepares(node).await? {
                return Ok(Vec::new());
            }
            let database = node.background();
            decision::sweep(&database, self.keep).await?;
            decision::open(&database, self.age, PASS).await
        };
        // The next pass will do.
        looked
            .await
            .inspect_err(|error| told(node, None, error))
            .ok()
    }

    /// Ends what is old enough, or notes that it is left.
    async fn resolve(
        &self,
        node: &Node,
        prepared: &Prepared,
        resolved: &mut Resolved,
        left: &mut HashSet<Decision>,
    ) {
        let Some(gid) = &prepared.gid else {
            resolved.foreign += 1;
            return;
        };
        let decision = Decision {
            shard: gid.shard,
            id: gid.id,
        };
        if prepared.age < self.age {
            resolved.young += 1;
            left.insert(decision);
            return;
        }
        match self.end(&node.background(), gid, decision).await {
            Ok(true) => resolved.committed += 1,
            Ok(false) => resolved.rolled_back += 1,
            Err(error) => {
                resolved.in_doubt += 1;
                resolved.oldest = resolved.oldest.max(prepared.age);
                left.insert(decision);
                told(node, Some(gid), &error);
            }
        }
    }

    async fn end(
        &self,
        database: &Database,
        gid: &Gid,
        decision: Decision,
    ) -> Result<bool, ShardError> {
        let home = self.router.virtual_shard(decision.shard)?;
        let commit = decision.is_committed(&home.node().background()).await?;
        prepared::end(database, gid, commit).await?;
        Ok(commit)
    }
}

/// Whether anything of ours can wait there.
async fn prepares(node: &Node) -> Result<bool, ShardError> {
    Ok(node.database().capabilities().await?.two_phase)
}

fn told(node: &Node, gid: Option<&Gid>, error: &ShardError) {
    let (node, gid) = (node.id(), gid.map(tracing::field::display));
    tracing::warn!(%node, gid, error = %Chain(error), "a recovery pass leaves something in doubt");
}
