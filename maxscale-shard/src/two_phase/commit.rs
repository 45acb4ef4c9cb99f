//! The two phases, and the way back.

use std::time::Duration;

use maxscale_core::Chain;
use tokio::time::sleep;

use super::gid::Gid;
use super::{Decided, Decision, Participant, TwoPhase, TwoPhaseError, TwoPhaseTx, prepared};
use crate::error::ShardError;
use crate::router::Node;
use crate::sql::Hook;

/// How long after a lost answer the deciding node is asked, and again.
const ASK_AFTER: [Duration; 3] = [
    Duration::from_millis(20),
    Duration::from_millis(200),
    Duration::from_secs(1),
];

/// A participant that is the server's now.
struct Second {
    node: Node,
    gid: Gid,
    hooks: Vec<Hook>,
}

pub(super) async fn commit(whole: TwoPhaseTx) -> Result<Decided, TwoPhaseError> {
    let (of, mut others) = (whole.of, whole.participants);
    if others.len() < 2 {
        if let Some(only) = others.pop() {
            only.tx.commit().await?;
        }
        return Ok(Decided { unfinished: 0 });
    }
    let Some(at) = others.iter().position(|participant| of.finds(participant)) else {
        undo(others).await;
        return Err(TwoPhaseError::NoHome);
    };
    let mut first = others.remove(at);
    let decision = Decision {
        shard: first.shard,
        id: whole.id,
    };
    // Before anything is prepared, so that what is prepared has an outcome.
    if let Err(source) = decision.note(&mut first.tx).await {
        others.push(first);
        undo(others).await;
        return Err(TwoPhaseError::Aborted { source });
    }
    let (seconds, failed) = prepare(&of, decision, others).await;
    if let Some(source) = failed {
        undo(vec![first]).await;
        roll_back(&seconds).await;
        return Err(TwoPhaseError::Aborted { source });
    }
    // From here until it is answered, nobody knows.
    let decider = first.node;
    match first.tx.commit().await {
        Ok(_) => {}
        Err(lost @ ShardError::OutcomeUnknown { .. }) => match ask(&decider, decision).await {
            Ok(true) => {}
            Ok(false) => {
                roll_back(&seconds).await;
                return Err(TwoPhaseError::Aborted { source: lost });
            }
            Err(source) => return Err(TwoPhaseError::InDoubt { decision, source }),
        },
        Err(source) => {
            roll_back(&seconds).await;
            return Err(TwoPhaseError::Aborted { source });
        }
    }
    let unfinished = finish(seconds).await;
    if unfinished == 0
        && let Err(error) = decision.finish(decider.database()).await
    {
        tracing::debug!(id = %decision.id, error = %Chain(&error), "left to a recovery pass");
    }
    Ok(Decided { unfinished })
}

impl TwoPhase {
    /// Whether a decision written by `participant` is found by its virtual shard.
    fn finds(&self, participant: &Participant) -> bool {
        let home = self.router.virtual_shard(participant.shard);
        home.is_ok_and(|home| home.node().id() == participant.node.id())
    }
}

/// Prepares one after the other, until one fails. That one is among those given,
/// too: it may be prepared all the same.
async fn prepare(
    of: &TwoPhase,
    decision: Decision,
    others: Vec<Participant>,
) -> (Vec<Second>, Option<ShardError>) {
    let mut seconds = Vec::new();
    let mut others = others.into_iter();
    for (n, participant) in (1..).zip(others.by_ref()) {
        let gid = Gid {
            coordinator: of.coordinator.clone(),
            shard: decision.shard,
            id: decision.id,
            n,
        };
        let prepared = participant
            .tx
            .prepare(format!("PREPARE TRANSACTION '{gid}'"));
        let (hooks, failed) = match prepared.await {
            Ok(hooks) => (hooks, None),
            Err(error) => (Vec::new(), Some(error)),
        };
        seconds.push(Second {
            node: participant.node,
            gid,
            hooks,
        });
        if failed.is_some() {
            undo(others.collect()).await;
            return (seconds, failed);
        }
    }
    (seconds, None)
}

/// Asks whether it is decided, after the answer was lost.
async fn ask(decider: &Node, decision: Decision) -> Result<bool, ShardError> {
    let mut pauses = ASK_AFTER.into_iter();
    loop {
        match decision.is_committed(decider.database()).await {
            // The server may not have noticed yet that its client is gone.
            Err(error) if error.may_pass() => match pauses.next() {
                Some(pause) => sleep(pause).await,
                None => return Err(error),
            },
            known => return known,
        }
    }
}

/// Commits what is prepared; gives how many are left to a recovery pass.
async fn finish(seconds: Vec<Second>) -> usize {
    let mut unfinished = 0;
    for second in seconds {
        match prepared::end(second.node.database(), &second.gid, true).await {
            Ok(()) => second.hooks.into_iter().for_each(|hook| hook()),
            Err(error) => {
                unfinished += 1;
                told(&second, &error);
            }
        }
    }
    unfinished
}

/// Rolls back what is prepared. What cannot be is left to a recovery pass.
async fn roll_back(seconds: &[Second]) {
    for second in seconds {
        if let Err(error) = prepared::end(second.node.database(), &second.gid, false).await {
            told(second, &error);
        }
    }
}

fn told(second: &Second, error: &ShardError) {
    let (node, gid) = (second.node.id(), &second.gid);
    tracing::warn!(%node, %gid, error = %Chain(error), "a prepared transaction is left to a recovery pass");
}

/// Rolls back what is not prepared, and keeps the connections.
pub(super) async fn undo(participants: Vec<Participant>) {
    for participant in participants {
        // Undone in any case.
        let _ = participant.tx.rollback().await;
    }
}
