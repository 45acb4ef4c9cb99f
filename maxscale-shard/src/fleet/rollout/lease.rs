//! Who migrates a fleet, and what was done, in its catalog.

use std::time::Duration;

use maxscale_core::Chain;
use maxscale_core::clock::Timestamp;
use tokio::time::sleep;

use super::RolloutError;
use crate::database::Database;
use crate::error::ShardError;
use crate::fleet::FleetError;
use crate::fleet::patience::Patience;
use crate::migrate::Step;
use crate::sql::{Row, Sql, sql};
use crate::topology::NodeId;

/// How long somebody who is not heard of is waited for, in microseconds.
const LEASE: i64 = 10_000_000;

/// How often it is prolonged.
const EVERY: Duration = Duration::from_secs(2);

/// Times are the catalog's own, so that no two clocks are compared.
const TAKE: Sql = Sql::each(
    "INSERT INTO ms_rollout (only_row, fence, holder, lease_until)
     VALUES (1, 1, $1, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint + $2)
     ON CONFLICT (only_row) DO UPDATE SET fence = ms_rollout.fence + 1,
         holder = excluded.holder, lease_until = excluded.lease_until
     WHERE ms_rollout.lease_until < (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
     RETURNING fence",
    "INSERT INTO ms_rollout (only_row, fence, holder, lease_until)
     VALUES (1, 1, $1, CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER) + $2)
     ON CONFLICT (only_row) DO UPDATE SET fence = ms_rollout.fence + 1,
         holder = excluded.holder, lease_until = excluded.lease_until
     WHERE ms_rollout.lease_until < CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER)
     RETURNING fence",
);

const HOLD: Sql = Sql::each(
    "UPDATE ms_rollout SET lease_until = (extract(epoch FROM clock_timestamp()) * 1000000)::bigint + $1
     WHERE only_row = 1 AND fence = $2",
    "UPDATE ms_rollout SET lease_until = CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER) + $1
     WHERE only_row = 1 AND fence = $2",
);

const NOTE: Sql = Sql::each(
    "INSERT INTO ms_rollout_step (node, owner, version, name, wave, holder, done_at)
     VALUES ($1, $2, $3, $4, $5, $6, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)
     ON CONFLICT (node, owner, version) DO NOTHING",
    "INSERT INTO ms_rollout_step (node, owner, version, name, wave, holder, done_at)
     VALUES ($1, $2, $3, $4, $5, $6, CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER))
     ON CONFLICT (node, owner, version) DO NOTHING",
);

/// A step that a rollout found done on a node, or did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DoneStep {
    /// The node.
    pub node: NodeId,
    /// The step, as `owner/version name`.
    pub step: String,
    /// The node's wave.
    pub wave: u32,
    /// Who did it; none where the rollout found it done.
    pub by: Option<String>,
    /// When that was noted, by the catalog's clock.
    pub at: Timestamp,
}

/// The right to migrate a fleet, for as long as it is prolonged.
pub(super) struct Lease {
    catalog: Database,
    holder: String,
    fence: i64,
}

/// What a node has by now.
pub(super) struct Done<'a> {
    pub(super) node: &'a NodeId,
    pub(super) wave: usize,
    /// Each step, and whether this rollout ran it.
    pub(super) steps: Vec<(Step, bool)>,
}

// === impl Lease ===

impl Lease {
    /// Takes the lease once nobody holds it.
    pub(super) async fn take(
        catalog: &Database,
        holder: String,
        mut patience: Patience,
    ) -> Result<Self, RolloutError> {
        loop {
            let take = TAKE.statement().bind(holder.as_str()).bind(LEASE);
            let refused = match catalog.execute_returning(take).await {
                Ok(rows) => match rows.first() {
                    Some(row) => {
                        let (catalog, fence) = (catalog.clone(), row.get("fence")?);
                        return Ok(Self {
                            catalog,
                            holder,
                            fence,
                        });
                    }
                    None => None,
                },
                Err(error) if error.may_pass() => Some(error),
                Err(error) => return Err(error.into()),
            };
            if !patience.pause().await {
                let Some(error) = refused else {
                    let by = sql("SELECT holder FROM ms_rollout WHERE only_row = 1");
                    let by = catalog.writer().await?.fetch_one(by).await?.get("holder")?;
                    return Err(RolloutError::Held { by });
                };
                return Err(error.into());
            }
        }
    }

    /// Prolongs the lease, waiting for a catalog that is away.
    pub(super) async fn hold(&self, mut patience: Patience) -> Result<(), RolloutError> {
        loop {
            match self.prolong().await {
                Err(RolloutError::Fleet(FleetError::Shard(error))) if error.may_pass() => {
                    if !patience.pause().await {
                        return Err(error.into());
                    }
                }
                held => return held,
            }
        }
    }

    /// Prolongs the lease again and again; returns when somebody took over.
    pub(super) async fn keep(&self) -> RolloutError {
        loop {
            sleep(EVERY).await;
            match self.prolong().await {
                Err(RolloutError::Lost) => return RolloutError::Lost,
                // Nobody can take over while the catalog is away, and before each
                // wave it is asked again.
                Err(error) => {
                    tracing::warn!(error = %Chain(&error), "cannot prolong the rollout's lease")
                }
                Ok(()) => {}
            }
        }
    }

    async fn prolong(&self) -> Result<(), RolloutError> {
        let hold = HOLD.statement().bind(LEASE).bind(self.fence);
        match self.catalog.execute(hold).await? {
            0 => Err(RolloutError::Lost),
            _ => Ok(()),
        }
    }

    /// Lets the next one begin. If that cannot be told, it waits for the lease to end.
    pub(super) async fn release(&self) {
        let release =
            sql("UPDATE ms_rollout SET lease_until = 0 WHERE only_row = 1 AND fence = $1");
        if let Err(error) = self.catalog.execute(release.bind(self.fence)).await {
            tracing::warn!(error = %Chain(&error), "cannot give the rollout's lease back");
        }
    }

    /// Notes what a node has, waiting for a catalog that is away.
    pub(super) async fn note(
        &self,
        done: &Done<'_>,
        mut patience: Patience,
    ) -> Result<(), RolloutError> {
        loop {
            match self.try_note(done).await {
                Err(RolloutError::Fleet(FleetError::Shard(error))) if error.may_pass() => {
                    if !patience.pause().await {
                        return Err(error.into());
                    }
                }
                noted => return noted,
            }
        }
    }

    async fn try_note(&self, done: &Done<'_>) -> Result<(), RolloutError> {
        let mut tx = self.catalog.begin().await?;
        // Locks the row: whoever takes over does so before or after.
        let hold = HOLD.statement().bind(LEASE).bind(self.fence);
        if tx.execute(hold).await? == 0 {
            return Err(RolloutError::Lost);
        }
        for (step, own) in &done.steps {
            let note = NOTE.statement().bind(done.node.as_str());
            let note = note.bind(step.set.owner).bind(step.step.version);
            let note = note.bind(step.step.name);
            let note = note.bind(i64::try_from(done.wave).unwrap_or(i64::MAX));
            let holder = own.then(|| self.holder.clone());
            tx.execute(note.bind(holder)).await?;
        }
        tx.commit().await?;
        Ok(())
    }
}

/// Everything that was noted, in order.
pub(super) async fn history(catalog: &Database) -> Result<Vec<DoneStep>, ShardError> {
    let rows = sql(
        "SELECT node, owner, version, name, wave, holder, done_at FROM ms_rollout_step
         ORDER BY done_at, node, owner, version",
    );
    catalog.fetch_all(rows).await?.iter().map(read).collect()
}

fn read(row: &Row) -> Result<DoneStep, ShardError> {
    let node: String = row.get("node")?;
    let (owner, version): (String, i64) = (row.get("owner")?, row.get("version")?);
    Ok(DoneStep {
        node: NodeId::new(&node).map_err(|error| ShardError::Column {
            column: "node".into(),
            source: error.into(),
        })?,
        step: format!("{owner}/{version} {}", row.get::<String>("name")?),
        wave: u32::try_from(row.get::<i64>("wave")?).unwrap_or(u32::MAX),
        by: row.get("holder")?,
        at: Timestamp::from_micros(row.get("done_at")?),
    })
}
