//! Projects: rows on the shard of the user who owns them, read through the cache.
//!
//! A project and the list of its user are two values, which a change drops together.
//! Both are loaded from the primary: an old value from a replica would stay in the
//! cache.

use std::sync::Arc;

use maxscale_cache::{Cache, CacheError, CacheSpec, Hub, Token};
use maxscale_core::clock::{Clock, Timestamp};
use maxscale_core::id::{Id, IdError, IdGenerator};
use maxscale_queue::{EnqueueOptions, Queue, QueueError};
use maxscale_shard::{FreshShard, Row, ShardError, Sql, TxOptions, Work};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::forget::Forget;
use crate::reads::{LIVES, read};

/// The projects of all users, each on the shard of its user. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Projects {
    ids: Arc<IdGenerator>,
    clock: Clock,
    one: Cache<Project>,
    lists: Cache<Vec<Project>>,
}

/// A project.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Kept", into = "Kept")]
pub struct Project {
    /// Its id, on its owner's shard.
    pub id: Id,
    /// Its title.
    pub title: String,
    /// When it was created.
    pub created_at: Timestamp,
}

/// A [`Project`] as the cache has it.
#[derive(Serialize, Deserialize)]
struct Kept {
    id: Uuid,
    title: String,
    created_at: i64,
}

/// What a client brings to see a change of its own in every process.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "of a project and of its list")]
pub struct ProjectTokens {
    /// For the project.
    pub project: Token,
    /// For the list of its user.
    pub list: Token,
}

const INSERT: Sql = Sql::both(
    "INSERT INTO project (shard_id, user_id, project_id, title, created_at)
     VALUES ($1, $2, $3, $4, $5)",
);
const RENAME: Sql = Sql::both(
    "UPDATE project SET title = $4
     WHERE shard_id = $1 AND user_id = $2 AND project_id = $3",
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
    /// Projects with ids of `ids`, kept in `hub`.
    pub fn new(ids: Arc<IdGenerator>, clock: Clock, hub: &Hub) -> Self {
        Self {
            ids,
            clock,
            one: hub.cache(CacheSpec::new("project", 1).l2_ttl(LIVES)),
            lists: hub.cache(CacheSpec::new("projects", 1).l2_ttl(LIVES)),
        }
    }

    /// Creates a project of `user`, whose shard is `shard`. Call
    /// [`created`](Self::created) then.
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

    /// Gives a project of `user`, whose shard is `shard`, another title; false if there
    /// is none. What drops the old one is committed with it, for a worker of `queue`;
    /// call [`changed`](Self::changed) for who does not want to wait for that.
    ///
    /// # Errors
    ///
    /// Returns [`QueueError`]. Of a database that did not answer nobody knows whether
    /// it has the title.
    pub async fn rename(
        &self,
        shard: &FreshShard,
        queue: &Queue,
        (user, project): (Id, Id),
        title: &str,
    ) -> Result<bool, QueueError> {
        let forget = Forget::new([
            self.one.invalidation(&name(user, project)),
            self.lists.invalidation(&user.to_string()),
        ]);
        let (id, forget) = (shard.id(), &forget);
        let renamed = shard.write(TxOptions::new(), |tx| {
            Work::new(async move {
                let row = RENAME.statement().bind(id).bind(user).bind(project);
                let renamed = tx.execute(row.bind(title)).await? == 1;
                if renamed {
                    queue
                        .enqueue_in(tx, forget, EnqueueOptions::default())
                        .await?;
                }
                Ok::<_, QueueError>(renamed)
            })
        });
        Ok(renamed.await?.value)
    }

    /// Call it after a project of `user` was created and committed; gives what a client
    /// brings to see that everywhere.
    ///
    /// This process shows the change from here on; others as they hear of it, and at
    /// once to who brings the token.
    pub async fn created(&self, user: Id) -> Token {
        // The hub asks again by itself: there is nothing to do for the caller.
        let list = user.to_string();
        self.lists.invalidate_with_token(&list).await.1
    }

    /// As [`created`](Self::created), after `project` was changed.
    pub async fn changed(&self, user: Id, project: Id) -> ProjectTokens {
        let one = name(user, project);
        let one = self.one.invalidate_with_token(&one);
        let ((_, project), list) = tokio::join!(one, self.created(user));
        ProjectTokens { project, list }
    }

    /// The project, if `user` owns it, whose shard is `shard`; with the change that
    /// `since` is of.
    ///
    /// # Errors
    ///
    /// Returns [`CacheError`] when neither cache nor shard have it in time.
    pub async fn find(
        &self,
        shard: &FreshShard,
        (user, project): (Id, Id),
        since: Option<Token>,
    ) -> Result<Option<Arc<Project>>, CacheError<ShardError>> {
        let shard = shard.shard().clone();
        let load = move || async move {
            let statement = LOAD.statement().bind(shard.id()).bind(user).bind(project);
            let row = shard.fetch_optional(statement).await?;
            row.map(|row| Project::read(&row)).transpose()
        };
        read(&self.one, &name(user, project), since, load).await
    }

    /// The 100 newest projects of `user`, whose shard is `shard`; with the change that
    /// `since` is of.
    ///
    /// # Errors
    ///
    /// Returns [`CacheError`] when neither cache nor shard have them in time.
    pub async fn list(
        &self,
        shard: &FreshShard,
        user: Id,
        since: Option<Token>,
    ) -> Result<Arc<Vec<Project>>, CacheError<ShardError>> {
        let shard = shard.shard().clone();
        let load = move || async move {
            let statement = LIST.statement().bind(shard.id()).bind(user);
            let rows = shard.fetch_all(statement).await?;
            let projects: Result<Vec<_>, _> = rows.iter().map(Project::read).collect();
            projects.map(Some)
        };
        let found = read(&self.lists, &user.to_string(), since, load).await?;
        Ok(found.unwrap_or_default())
    }
}

/// The id of a project in the cache: who asks for another's finds nothing.
fn name(user: Id, project: Id) -> String {
    format!("{user}.{project}")
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

impl From<Project> for Kept {
    fn from(project: Project) -> Self {
        Self {
            id: project.id.as_uuid(),
            title: project.title,
            created_at: project.created_at.as_micros(),
        }
    }
}

impl TryFrom<Kept> for Project {
    type Error = IdError;

    fn try_from(kept: Kept) -> Result<Self, IdError> {
        Ok(Self {
            id: Id::from_uuid(kept.id)?,
            title: kept.title,
            created_at: Timestamp::from_micros(kept.created_at),
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
