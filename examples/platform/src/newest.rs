//! The newest projects of all users, page by page: a question to every node.

use std::time::Duration;

use maxscale_core::keys::Keys;
use maxscale_shard::scatter::{
    Cursor, KeyType, LegError, Listing, OnFailure, OrderBy, OrderKey, ScatterError,
};
use maxscale_shard::{ReadPolicy, Router, Sql};

use crate::project::Project;

/// The newest projects. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Newest {
    router: Router,
    listing: Listing,
}

/// Some of the newest projects, and where they go on.
#[derive(Debug)]
pub struct NewestPage {
    /// The projects, the newest first.
    pub projects: Vec<Project>,
    /// Where the next page begins, if there is more.
    pub next: Option<Cursor>,
    /// The nodes whose projects are missing.
    pub missing: Vec<LegError>,
}

/// `project_newest` gives each node's newest without looking at the others.
const NEWEST: Sql = Sql::both(
    "SELECT shard_id, user_id, project_id, title, created_at FROM project
     WHERE shard_id = ANY($shards)",
);

/// A page without a node is better than one that lets readers wait.
const LIMIT: Duration = Duration::from_secs(2);

/// Of what everybody did, a replica tells early enough.
const POLICY: ReadPolicy = ReadPolicy::Replica {
    max_lag: Duration::from_secs(10),
};

// === impl Newest ===

impl Newest {
    /// The projects on all nodes of `router`; `keys` seal the places in the listing.
    #[expect(clippy::missing_panics_doc, reason = "two plain columns are an order")]
    pub fn new(router: Router, keys: Keys) -> Self {
        let order = OrderBy::new([
            OrderKey::desc("created_at", KeyType::I64),
            OrderKey::desc("project_id", KeyType::Uuid),
        ]);
        let order = order.expect("two plain columns are an order");
        let listing = Listing::new("newest projects", order, keys);
        Self { router, listing }
    }

    /// The `rows` newest, or those after a place that was given out before.
    ///
    /// # Errors
    ///
    /// Returns [`ScatterError`] for a place that is none, or when no node answers.
    pub async fn page(&self, rows: u32, from: Option<&Cursor>) -> Result<NewestPage, ScatterError> {
        let asked = (self.router.scatter(NEWEST.statement()))
            .key("user_id", KeyType::Uuid)
            .on_failure(OnFailure::BestEffort { min_ok: 1 })
            .policy(POLICY)
            .limit(LIMIT);
        let page = asked.page(&self.listing, rows, from).await?;
        let projects: Result<_, _> = page.rows.iter().map(Project::read).collect();
        Ok(NewestPage {
            projects: projects.map_err(ScatterError::Shard)?,
            next: page.next,
            missing: page.failures,
        })
    }
}
