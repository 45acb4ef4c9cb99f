//! Passes over a node: what nobody drives, what is stuck, what may go.

use std::time::Duration;

use maxscale_core::Chain;
use maxscale_core::fact::VirtualShard;
use maxscale_core::id::Id;

use super::Sagas;
use crate::error::ShardError;
use crate::router::Node;
use crate::saga::state::Phase;
use crate::saga::step::Ask;
use crate::saga::store::{self, Ended};
use crate::saga::{SagaError, StepError};

/// What a pass over a node did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recovered {
    /// Sagas that ended as done.
    pub done: u64,
    /// Sagas that ended as compensated.
    pub compensated: u64,
    /// Sagas that are stuck now.
    pub stuck: u64,
    /// Sagas that wait after a failure, or that another driver has.
    pub open: u64,
    /// Sagas that could not be driven at all: their row's shard was away, or
    /// nobody said how they are done.
    pub failed: u64,
}

/// A saga whose compensation failed for good.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StuckSaga {
    /// The virtual shard where it was begun.
    pub shard: VirtualShard,
    /// Its id.
    pub id: Id,
    /// Its name.
    pub name: String,
    /// The step that cannot be undone, counted from 0. What comes after it is
    /// undone; it and what comes before are not.
    pub step: u32,
    /// Why.
    pub problem: Option<String>,
}

impl Sagas {
    /// The most sagas of one direction that a pass takes.
    pub const PASS: u32 = 256;

    /// Goes on with every saga begun on `node` that is due: those whose driver is
    /// gone, and those that waited after a failure. One after the other, at most
    /// [`Sagas::PASS`] in each direction; call it again and again.
    ///
    /// # Errors
    ///
    /// Returns [`SagaError::Shard`] when the node cannot be asked what is due. A
    /// saga that cannot be driven is logged and counted, and the pass goes on.
    pub async fn recover(&self, node: &Node) -> Result<Recovered, SagaError> {
        let mut recovered = Recovered::default();
        for home in store::due(&node.background(), Self::PASS).await? {
            *match self.drive(&home).await {
                Ok(Phase::Done) => &mut recovered.done,
                Ok(Phase::Compensated) => &mut recovered.compensated,
                Ok(Phase::Stuck) => &mut recovered.stuck,
                Ok(Phase::Forward | Phase::Backward) => &mut recovered.open,
                Err(error) => {
                    let node = node.id();
                    tracing::warn!(id = %home.id, %node, error = %Chain(&error), "a saga is not driven");
                    &mut recovered.failed
                }
            } += 1;
        }
        Ok(recovered)
    }

    /// The sagas begun on `node` that are stuck, at most `limit`, for an operator.
    ///
    /// # Errors
    ///
    /// Returns [`SagaError::Shard`].
    pub async fn stuck(&self, node: &Node, limit: u32) -> Result<Vec<StuckSaga>, SagaError> {
        let stuck = store::ended(&node.background(), Phase::Stuck, Duration::ZERO, limit).await?;
        let told = |ended: Ended| StuckSaga {
            shard: ended.home.shard,
            id: ended.home.id,
            name: ended.name,
            step: ended.step,
            problem: ended.problem,
        };
        Ok(stuck.into_iter().map(told).collect())
    }

    /// Removes at most [`Sagas::PASS`] of the sagas begun on `node` that have been
    /// done, and as many that have been compensated, for longer than `keep`, with
    /// what their steps left on their shards; gives how many. A stuck one stays.
    ///
    /// A driver that was frozen for longer than `keep` could do a step again, so
    /// choose [`Sagas::DEFAULT_KEEP`] or so.
    ///
    /// # Errors
    ///
    /// Returns [`SagaError::Shard`] when a database cannot be asked; what was to be
    /// removed then is the next time.
    pub async fn sweep(&self, node: &Node, keep: Duration) -> Result<u64, SagaError> {
        let mut removed = 0;
        for phase in [Phase::Done, Phase::Compensated] {
            for ended in store::ended(&node.background(), phase, keep, Self::PASS).await? {
                // What another version began is left to that.
                let Some(saga) = self.known(&ended.name) else {
                    continue;
                };
                for step in (0..).take(saga.steps().len()) {
                    let forget = (Ask::Forget, ended.home.id, step, &*ended.payload);
                    let (ask, id, step, payload) = forget;
                    match saga.ask(&self.router, ask, id, step, payload).await {
                        Ok(_) => {}
                        Err(StepError::Shard(error)) => return Err(error.into()),
                        Err(error) => return Err(unreadable(error).into()),
                    }
                }
                ended.home.remove().await?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}

fn unreadable(error: StepError) -> ShardError {
    ShardError::Column {
        column: "payload".into(),
        source: error.into(),
    }
}
