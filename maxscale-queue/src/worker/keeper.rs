//! Keeps a worker's lease on one node, by a connection of its own.

use std::sync::Arc;

use maxscale_core::{BoxError, Chain};
use maxscale_shard::{Conn, Database, Node, ShardError};
use tokio::sync::watch;
use tokio::time::{Duration, Instant, timeout};
use uuid::Uuid;

use super::node::PAUSE;
use super::standing::{Life, Standing};
use crate::store;

/// The share of a lease after which it is renewed.
const RENEW: f64 = 0.3;
/// The share of a lease in which a renewal has to be answered, so that there is time for
/// another one.
const ANSWER: f64 = 0.2;
/// Less than this is no time in which a server could be connected to.
const SHORTEST_ANSWER: Duration = Duration::from_secs(1);
/// For how many leases a runtime may say nothing before it counts as dead.
const SILENCE: u32 = 6;

/// Begins lives on a node and prolongs them, for as long as the worker's runtime runs.
pub(super) struct Keeper {
    pub(super) node: Node,
    pub(super) standing: Arc<Standing>,
    pub(super) lease: Duration,
    pub(super) own: Option<Own>,
    /// Whether the life that is known was ever its own for sure.
    pub(super) lived: bool,
    /// Whether it shall end.
    pub(super) ends: watch::Receiver<bool>,
}

/// The connection that nobody else uses.
pub(super) struct Own {
    database: Database,
    conn: Conn,
}

// === impl Keeper ===

impl Keeper {
    /// Ends between two beats: what one wrote is known then.
    pub(super) async fn run(mut self) {
        while !*self.ends.borrow() {
            if self.is_abandoned() {
                self.pause(PAUSE).await;
                continue;
            }
            let pause = match self.beat().await {
                Ok(()) => self.lease.mul_f64(RENEW),
                Err(error) => {
                    let node = self.node.id();
                    tracing::warn!(%node, error = %Chain(&*error), "cannot keep the lease");
                    PAUSE
                }
            };
            self.pause(pause).await;
        }
    }

    async fn pause(&mut self, time: Duration) {
        // Whoever would say that it shall end is gone: that says it too.
        let _ = timeout(time, self.ends.wait_for(|ends| *ends)).await;
    }

    /// Whether the worker's runtime has said nothing for so long that its jobs are
    /// better run elsewhere. It is told of long before.
    fn is_abandoned(&self) -> bool {
        let silent = self.standing.silent();
        if silent > self.lease {
            let node = self.node.id();
            tracing::warn!(%node, ?silent, "a handler blocks the runtime that the worker runs on");
        }
        silent > self.lease.saturating_mul(SILENCE)
    }

    /// Begins a life or prolongs it, and looks which jobs shall stop. Safe to drop: what may have been written is
    /// a lease for longer than is counted on, or for nobody.
    async fn beat(&mut self) -> Result<(), BoxError> {
        // Whoever did not answer is not asked again on the same connection.
        let own = self.own.take();
        let limit = self.lease.mul_f64(ANSWER).max(SHORTEST_ANSWER);
        self.own = Some(timeout(limit, self.written(own)).await??);
        Ok(())
    }

    async fn written(&mut self, own: Option<Own>) -> Result<Own, ShardError> {
        let mut own = self.connected(own).await?;
        let mut worker = self.standing.life().worker;
        // Taken before the database takes its time, so it is the earlier one.
        let until = safe_until(self.lease);
        let prolonged = !worker.is_nil() && store::renew(&mut own.conn, worker, self.lease).await?;
        if !prolonged {
            if self.lived {
                tracing::warn!(node = %self.node.id(), "the lease was lost, and all jobs under it");
            }
            worker = Uuid::new_v4();
            self.lived = false;
            // Before it is asked for: who leaves takes it back, whether it was had or not.
            let until = Instant::now();
            self.standing.live(Life { worker, until });
            store::enter(&mut own.conn, worker, self.lease).await?;
        }
        self.standing.live(Life { worker, until });
        self.lived = true;
        for lease in store::asked(&mut own.conn, worker).await? {
            self.standing.ask(&lease);
        }
        Ok(own)
    }

    /// The connection to whichever server is the primary now.
    async fn connected(&self, own: Option<Own>) -> Result<Own, ShardError> {
        let primary = self.node.database();
        if let Some(own) = own.filter(|own| own.database.name() == primary.name()) {
            return Ok(own);
        }
        let database = primary.apart();
        let conn = database.writer().await?;
        Ok(Own { database, conn })
    }
}

/// Until when a lease that is asked for now is surely ours, by our own clock.
fn safe_until(lease: Duration) -> Instant {
    Instant::now() + lease.mul_f64(0.9)
}
