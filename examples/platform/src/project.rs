//! Projects: rows on the shard of the user who owns them.
//!
//! They are read from whichever server shows what that user has written and seen.

use std::sync::Arc;

use maxscale_core::clock::{Clock, Timestamp};
use maxscale_core::id::{Id, IdGenerator};
use maxscale_shard::{FreshShard, Row, ShardError, Sql};
use uuid::Uuid;

/// The projects of all users, each on the shard of its user. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Projects {
    ids: Arc<IdGenerator>,
    clock: Clock,
}

/// A project.
#[derive(Clone, Debug)]
pub struct Project {
    /// Its id, on its owner's shard.
    pub id: Id,
    /// Its title.
    pub title: String,
    /// When it was created.
    pub created_at: Timestamp,
}

const INSERT: Sql = Sql::both(
    "INSERT INTO project (shard_id, user_id, project_id, title, created_at)
     VALUES ($1, $2, $3, $4, $5)",
);
const LOAD: Sql = Sql::both(
    "SELECT project_id, title, created_at FROM project
     WHERE shard_id = $1 AND user_id = $2 AND project_id = $3",
);
const LIST: Sql = Sql::both(
    "SELECT project_id, title, created_at FROM project
     WHERE shard_id = $1 AND user_id = $2 ORDER BY project_id DESC LIMIT 100",
);

// === impl Projects ===

impl Projects {
    /// Projects with ids of `ids`.
    pub const fn new(ids: Arc<IdGenerator>, clock: Clock) -> Self {
        Self { ids, clock }
    }

    /// Creates a project of `user`, whose shard is `shard`.
    ///
    /// # Errors
    ///
    /// Returns [`ShardError`] when the user's shard cannot be asked.
    pub async fn create(
        &self,
        shard: &FreshShard,
        user: Id,
        title: &str,
    ) -> Result<Project, ShardError> {
        let project = Project {
            id: self.ids.draw(shard.id()),
            title: title.to_owned(),
            created_at: self.clock.now(),
        };
        let row = INSERT
            .statement()
            .bind(shard.id())
            .bind(user)
            .bind(project.id)
            .bind(title)
            .bind(project.created_at);
        shard.execute(row).await?;
        Ok(project)
    }

    /// The project, if `user` owns it, whose shard is `shard`.
    ///
    /// # Errors
    ///
    /// Returns [`ShardError`] when the user's shard cannot be asked.
    pub async fn find(
        &self,
        shard: &FreshShard,
        user: Id,
        project: Id,
    ) -> Result<Option<Project>, ShardError> {
        let statement = LOAD.statement().bind(shard.id()).bind(user).bind(project);
        let row = shard.fetch_optional(statement).await?;
        row.map(|row| Project::read(&row)).transpose()
    }

    /// The 100 newest projects of `user`, whose shard is `shard`.
    ///
    /// # Errors
    ///
    /// Returns [`ShardError`] when the user's shard cannot be asked.
    pub async fn list(&self, shard: &FreshShard, user: Id) -> Result<Vec<Project>, ShardError> {
        let rows = shard
            .fetch_all(LIST.statement().bind(shard.id()).bind(user))
            .await?;
        rows.iter().map(Project::read).collect()
    }
}

// === impl Project ===

impl Project {
    pub(crate) fn read(row: &Row) -> Result<Self, ShardError> {
        Ok(Self {
            id: read_id(row, "project_id")?,
            title: row.get("title")?,
            created_at: Timestamp::from_micros(row.get("created_at")?),
        })
    }
}

/// Reads a column that holds an id.
///
/// # Errors
///
/// Returns [`ShardError::Column`] for anything else.
pub fn read_id(row: &Row, column: &str) -> Result<Id, ShardError> {
    Id::from_uuid(row.get::<Uuid>(column)?).map_err(|source| ShardError::Column {
        column: column.to_owned(),
        source: source.into(),
    })
}
