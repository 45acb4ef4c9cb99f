//! Ending what a crash left half-way.

use std::time::Duration;

use maxscale_core::Chain;
use maxscale_core::fact::VirtualShard;
use maxscale_core::meter::{HotCounter, HotLevel, Meter, Metric};
use uuid::Uuid;

use super::settle::State;
use super::statement::{CONFIRM, DUE, EXPIRED, RELEASE, UNMARK};
use super::{Claim, ClaimError, Claims};
use crate::error::ShardError;
use crate::router::Node;
use crate::sql::Row;

/// What one pass of [`Claims::reconcile`] came upon and ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reconciled {
    /// Reservations that had run out, and releases that were not carried through.
    pub dangling: u64,
    /// How long the oldest of them has been left.
    pub oldest: Duration,
    /// Values confirmed for owners that were written and did not confirm.
    pub confirmed: u64,
    /// Values set free that nobody was written for.
    pub freed: u64,
    /// Values set free that their owners had given up.
    pub released: u64,
    /// Marks forgotten that had done their work.
    pub forgotten: u64,
}

/// Counts what passes do for claims of one kind.
#[derive(Clone, Debug)]
pub(crate) struct ClaimCounts {
    confirmed: HotCounter,
    freed: HotCounter,
    released: HotCounter,
    dangling: HotLevel,
}

const ENDED: Metric = Metric::new(
    "maxscale.shard.claims.ended",
    "{claim}",
    "Claims that were left half-way, by what the reconciler made of them.",
);

const DANGLING: Metric = Metric::new(
    "maxscale.shard.claims.dangling",
    "{claim}",
    "Claims that the last pass found left half-way.",
);

/// Looked at in one pass on one node.
const BATCH: u32 = 500;

// === impl ClaimCounts ===

impl ClaimCounts {
    fn register(meter: &Meter, kind: &str) -> Self {
        let ended =
            |outcome| HotCounter::register(meter, ENDED, &[("kind", kind), ("outcome", outcome)]);
        Self {
            confirmed: ended("confirmed"),
            freed: ended("freed"),
            released: ended("released"),
            dangling: HotLevel::register(meter, DANGLING, &[("kind", kind)]),
        }
    }

    /// A pass over all nodes ended.
    pub(crate) fn passed(&self, all: &Reconciled) {
        self.confirmed.add(all.confirmed);
        self.freed.add(all.freed);
        self.released.add(all.released);
        let now = i64::try_from(all.dangling).unwrap_or(i64::MAX);
        self.dangling.add(now - self.dangling.get());
    }
}

// === impl Reconciled ===

impl Reconciled {
    pub(crate) fn add(&mut self, other: Self) {
        self.dangling += other.dangling;
        self.oldest = self.oldest.max(other.oldest);
        self.confirmed += other.confirmed;
        self.freed += other.freed;
        self.released += other.released;
        self.forgotten += other.forgotten;
    }

    fn found(&mut self, row: &Row) -> Result<(), ShardError> {
        let late = u64::try_from(row.get::<i64>("late")?).unwrap_or_default();
        self.dangling += 1;
        self.oldest = self.oldest.max(Duration::from_micros(late));
        Ok(())
    }
}

// === impl Claims ===

impl Claims {
    /// What passes count of claims of this kind.
    pub(crate) fn counts(&self, meter: &Meter) -> ClaimCounts {
        ClaimCounts::register(meter, self.kind)
    }

    /// Ends what was left half-way on `node`: reservations that ran out, releases
    /// that were not carried through, and marks that are no longer needed. Looks
    /// at 500 of each at most; what cannot be decided now, because another node
    /// is away, is left for later. Goes on connections for background work.
    ///
    /// # Errors
    ///
    /// Returns [`ClaimError::Shard`] when `node` cannot be asked.
    pub async fn reconcile(&self, node: &Node) -> Result<Reconciled, ClaimError> {
        let mut done = Reconciled::default();
        let background = node.background();
        let expired = EXPIRED.statement().bind(self.kind).bind(BATCH);
        for row in background.fetch_all(expired).await? {
            done.found(&row)?;
            match self.resolve(&claim(&row)?).await {
                Ok(true) => done.confirmed += 1,
                Ok(false) => done.freed += 1,
                Err(error) => later(node, &error),
            }
        }
        let due = DUE.statement().bind(self.kind).bind(BATCH);
        for row in background.fetch_all(due).await? {
            match self.carry_through(&row, &mut done).await {
                Ok(()) => {
                    let unmark = UNMARK.statement().bind(shard(&row)?);
                    let unmark = unmark.bind(row.get::<Uuid>("token")?);
                    background.execute(unmark).await?;
                    done.forgotten += 1;
                }
                Err(error) => later(node, &error),
            }
        }
        Ok(done)
    }

    /// Does in the directory what a mark says.
    async fn carry_through(&self, row: &Row, done: &mut Reconciled) -> Result<(), ClaimError> {
        let claim = claim(row)?;
        match State::stored(row.get("state")?) {
            // Nearly always held by now. If the row is gone, so is the value.
            State::Written => self.by_token(CONFIRM, &claim).await.map(drop),
            State::Releasing => {
                if self.by_token(RELEASE, &claim).await? > 0 {
                    done.found(row)?;
                    done.released += 1;
                }
                Ok(())
            }
            // Old enough for nobody to run into it any more.
            State::Cancelled => Ok(()),
        }
    }
}

fn claim(row: &Row) -> Result<Claim, ShardError> {
    Ok(Claim {
        hash: row.get("value_hash")?,
        owner: row.get("owner")?,
        token: row.get("token")?,
    })
}

fn shard(row: &Row) -> Result<VirtualShard, ShardError> {
    let number = u32::try_from(row.get::<i64>("shard_id")?);
    Ok(VirtualShard::new(number.unwrap_or(u32::MAX)))
}

fn later(node: &Node, error: &ClaimError) {
    tracing::debug!(node = %node.id(), error = %Chain(error), "a claim stays as it is for now");
}
