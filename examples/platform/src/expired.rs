//! Deletes what has run out: sessions that are over, tokens of mails that nobody used,
//! and addresses that nobody may take back any more.
//!
//! What has run out counts for nothing before it is deleted, so nobody waits for this.
//! Every process does it, and none takes rows that another one has taken.

use std::time::Duration;

use maxscale_auth::Accounts;
use maxscale_auth::session::SqlSessions;
use maxscale_core::Chain;
use maxscale_shard::{Node, Router};
use tokio::time::sleep;

/// How often each node is looked at.
pub const EVERY: Duration = Duration::from_secs(600);

/// Between two batches of one node, which has others to serve.
const PAUSE: Duration = Duration::from_millis(100);

/// The most batches of a pass on one node: 100 sessions each.
const BATCHES: u32 = 1_000;

/// Who deletes, and where.
#[derive(Clone, Debug)]
pub struct Expired {
    /// The nodes.
    pub router: Router,
    /// The rows of sessions.
    pub sessions: SqlSessions,
    /// What accounts leave.
    pub accounts: Accounts,
}

// === impl Expired ===

impl Expired {
    /// Looks at every node now and every [`EVERY`], until dropped.
    pub async fn run(self) {
        loop {
            for node in self.router.nodes().iter().filter(|node| node.is_ready()) {
                self.sweep(node).await;
            }
            sleep(EVERY).await;
        }
    }

    async fn sweep(&self, node: &Node) {
        let mut ended = 0;
        for _ in 0..BATCHES {
            match self.sessions.sweep(node).await {
                Ok(swept) => {
                    ended += swept;
                    if swept < u64::from(SqlSessions::SWEPT_AT_ONCE) {
                        break;
                    }
                }
                Err(error) => {
                    tracing::warn!(node = %node.id(), error = %Chain(&error), "cannot delete sessions that are over");
                    break;
                }
            }
            sleep(PAUSE).await;
        }
        match self.accounts.sweep(node).await {
            Ok(swept) => {
                tracing::debug!(node = %node.id(), ended, ?swept, "deleted what had run out");
            }
            Err(error) => {
                tracing::warn!(node = %node.id(), error = %Chain(&error), "cannot delete what accounts left");
            }
        }
    }
}
