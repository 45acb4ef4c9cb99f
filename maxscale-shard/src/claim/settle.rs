//! What became of a reservation: asked on the shard of its owner, and decided there.

use std::time::Duration;

use maxscale_core::fact::VirtualShard;

use super::statement::{FREE, MARK_UNLESS, MARKED};
use super::{Claim, ClaimError, Claims, Standing, micros};
use crate::error::ShardError;
use crate::sql::{Sql, Statement};

/// What a mark on the owner's shard says of a token. The numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// What owns the value is there.
    Written = 0,
    /// It is not, and will not be.
    Cancelled = 1,
    /// It no longer owns the value.
    Releasing = 2,
}

/// A cancelled mark stays for so long. No transaction lasts a tenth of it.
const TOMBSTONE: Duration = Duration::from_secs(24 * 60 * 60);

// === impl State ===

impl State {
    pub(super) const fn stored(number: i64) -> Self {
        match number {
            0 => Self::Written,
            2 => Self::Releasing,
            _ => Self::Cancelled,
        }
    }
}

// === impl Claims ===

impl Claims {
    /// Finds out what became of a reservation whose owner's transaction may or may
    /// not have been committed, and makes sure that it stays so: true if it was,
    /// and then the owner holds the value; false if it was not and never will be,
    /// and then the value is free.
    ///
    /// # Errors
    ///
    /// Returns [`ClaimError::Shard`] when a database could not be asked; nothing is
    /// decided then, and [`reconcile`](Self::reconcile) does it later.
    pub async fn resolve(&self, claim: &Claim) -> Result<bool, ClaimError> {
        let written = self.settle(claim).await? == State::Written;
        if written {
            self.confirm(claim).await?;
        } else {
            self.by_token(FREE, claim).await?;
        }
        Ok(written)
    }

    /// Takes a value from whoever let its reservation run out.
    pub(super) async fn take_over(&self, hash: &[u8], from: Standing) -> Result<(), ClaimError> {
        if from.held || !from.expired {
            return Err(ClaimError::Taken);
        }
        let claim = Claim {
            hash: hash.to_vec(),
            owner: from.owner,
            token: from.token,
        };
        match self.resolve(&claim).await {
            Ok(false) => Ok(()),
            // Confirmed for its owner, who was only slow to do so.
            Ok(true) => Err(ClaimError::Taken),
            // Somebody else was quicker, and may have released it as well.
            Err(ClaimError::Lost) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// What the owner's shard says of the claim; says *cancelled* there if nothing
    /// is said yet. Whoever says something first has decided.
    pub(super) async fn settle(&self, claim: &Claim) -> Result<State, ShardError> {
        let shard = self.router.shard(claim.owner)?;
        let mut tx = shard.begin().await?;
        let cancelled = self.mark(MARK_UNLESS, shard.id(), claim, State::Cancelled, TOMBSTONE);
        // Waits for a writer that has said something and not committed it yet.
        tx.execute(cancelled).await?;
        let marked = MARKED.statement().bind(shard.id()).bind(claim.token);
        let state: i64 = tx.fetch_one(marked).await?.get("state")?;
        tx.commit().await?;
        Ok(State::stored(state))
    }

    pub(super) fn mark(
        &self,
        text: Sql,
        shard: VirtualShard,
        claim: &Claim,
        state: State,
        due_in: Duration,
    ) -> Statement {
        let mark = text.statement().bind(shard).bind(claim.token);
        let mark = mark.bind(self.kind).bind(claim.hash.as_slice());
        mark.bind(claim.owner)
            .bind(state as i32)
            .bind(micros(due_in))
    }
}
