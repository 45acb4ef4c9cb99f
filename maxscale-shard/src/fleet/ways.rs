use uuid::Uuid;

use super::home::{has_table, row_of};
use super::{FleetError, Migrate, limits};
use crate::database::Database;
use crate::error::ShardError;
use crate::migrate::{self, MigrationSet, Step};
use crate::router::Node;
use crate::sql::Sql;
use crate::topology::NodeId;

/// The ways to one database: for statements, and past a pooler for migrations.
#[derive(Clone, Debug)]
pub(super) struct Ways {
    pub(super) database: Database,
    /// The node, and its direct URL, if it has one.
    direct: Option<(NodeId, Database)>,
}

/// A table whose only row tells one database of a fleet from all others.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    table: &'static str,
    row: Sql,
}

// === impl Mark ===

impl Mark {
    /// Of a node.
    pub(super) const NODE: Self = Self {
        table: "ms_node",
        row: Sql::both("SELECT cluster, name FROM ms_node"),
    };
    /// Of the catalog.
    pub(super) const CATALOG: Self = Self {
        table: "ms_keyspace",
        row: Sql::both("SELECT cluster, '' AS name FROM ms_keyspace"),
    };
}

// === impl Ways ===

impl Ways {
    /// The ways to the primary of `node`.
    pub(super) fn to(node: &Node) -> Self {
        let primary = node.primary();
        let direct = primary.direct().cloned();
        Self {
            database: primary.database().clone(),
            direct: direct.map(|way| (node.id().clone(), way)),
        }
    }

    /// The same under another name in errors.
    pub(super) fn called(self, name: &'static str) -> Self {
        Self {
            database: self.database.called(name),
            direct: self.direct.map(|(node, way)| (node, way.called(name))),
        }
    }

    /// The way for migrations.
    pub(super) fn admin(&self) -> &Database {
        self.direct.as_ref().map_or(&self.database, |(_, way)| way)
    }

    /// Does what `mode` says about pending migrations; gives the steps that ran.
    pub(super) async fn migrate(
        &self,
        sets: &[MigrationSet],
        mode: Migrate,
        mark: Mark,
    ) -> Result<Vec<Step>, FleetError> {
        let admin = self.admin();
        let mut ran = Vec::new();
        admin.reach().await?;
        self.lead_to_one(mark).await?;
        match mode {
            Migrate::Auto => {
                ran = migrate::apply(admin, sets).await?;
            }
            Migrate::Check => {
                let pending = migrate::check(admin, sets).await?;
                if !pending.is_empty() {
                    return Err(FleetError::Pending {
                        database: admin.name().to_owned(),
                        pending: pending.join(", "),
                    });
                }
            }
            Migrate::Off => {}
        }
        self.are_ways_to_one(mark).await?;
        if mode != Migrate::Off {
            limits::keep(&self.database, admin, mode == Migrate::Auto).await?;
        }
        Ok(ran)
    }

    async fn are_ways_to_one(&self, mark: Mark) -> Result<(), FleetError> {
        // Of fresh databases only the one that was migrated has the table.
        let Some((node, direct)) = &self.direct else {
            return Ok(());
        };
        let migrated = has_table(&mut direct.writer().await?, mark.table).await?;
        if migrated && !has_table(&mut self.database.writer().await?, mark.table).await? {
            return Err(FleetError::OtherDirect { node: node.clone() });
        }
        Ok(())
    }

    /// Refuses a direct URL that leads to another database than the first.
    pub(super) async fn lead_to_one(&self, mark: Mark) -> Result<(), FleetError> {
        let Some((node, direct)) = &self.direct else {
            return Ok(());
        };
        // What the first way shows now, the second shows later too.
        let Some(known) = told(&self.database, mark).await? else {
            return Ok(());
        };
        if told(direct, mark).await? != Some(known) {
            return Err(FleetError::OtherDirect { node: node.clone() });
        }
        Ok(())
    }
}

/// The fleet and the name in the row of `mark`, if it was written.
async fn told(database: &Database, mark: Mark) -> Result<Option<(Uuid, String)>, ShardError> {
    let mut conn = database.writer().await?;
    let row = row_of(&mut conn, mark.table, mark.row.statement()).await?;
    row.map(|row| Ok((row.get("cluster")?, row.get("name")?)))
        .transpose()
}
