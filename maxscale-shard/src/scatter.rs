//! Asks every node one question, and makes one answer of theirs.
//!
//! ```text
//!  one statement ─ the map of one epoch ─┬─ node-1: … shard_id = ANY(its virtual shards) ─┬─ rows()
//!                                        ├─ node-2: …                                     ├─ merge(order)
//!                                        └─ node-3: …                                     ├─ page(listing)
//!                                                                                         └─ aggregate(..)
//! ```
//!
//! A statement is sent once per node, however many virtual shards lie there. It
//! is a plain `SELECT` of rows with `shard_id = ANY($shards)` among its
//! conditions, on both engines; what to make of the rows (order, page, sum) the
//! crate writes around it. It reads from primaries, or by a
//! [policy](Scatter::policy) from replicas, on connections for background work:
//! requests have theirs. So many legs run at once and no more
//! ([`ScatterLimits`]), each for as long as its [limit](Scatter::limit) says, and
//! dropping a scatter ends all of them, in the server too.
//!
//! A virtual shard is asked for at the one node that serves it. While one is
//! [frozen](crate::SlotState::Frozen) or lies [outside](crate::residency) its
//! regions, or a node is not ready, that node is not asked and counts as failed. What is not read at one moment is not a snapshot: a row
//! that is written meanwhile may be seen on one node and not on the other.
//!
//! # Examples: what are the newest projects of all users?
//!
//! ```no_run
//! use maxscale_shard::scatter::{KeyType, OrderBy, OrderKey, ScatterError};
//! use maxscale_shard::{Router, sql};
//!
//! # async fn newest(router: Router) -> Result<(), ScatterError> {
//! let projects = sql("SELECT project_id, title, created_at FROM project
//!                     WHERE shard_id = ANY($shards)");
//! let newest = OrderBy::new([
//!     OrderKey::desc("created_at", KeyType::I64),
//!     OrderKey::asc("project_id", KeyType::Uuid),
//! ])?;
//! let mut rows = router.scatter(projects).merge(&newest).await?;
//! while let Some(row) = rows.next().await? {
//!     println!("{}", row.get::<String>("title").map_err(ScatterError::Shard)?);
//! }
//! # Ok(())
//! # }
//! ```

mod aggregate;
#[cfg(feature = "cursor")]
mod cursor;
mod error;
mod gate;
mod gather;
mod legs;
mod merge;
mod order;
#[cfg(feature = "cursor")]
mod page;
mod reside;
mod text;

use std::sync::Arc;
use std::time::Duration;

use maxscale_core::fact::{Deadline, RegionId, VirtualShard};
use tokio::time::Instant;

use crate::key::{Key, OwnedKey};
use crate::router::{ReadPolicy, Router};
use crate::sql::{Row, Statement};
use crate::topology::NodeId;

pub use aggregate::{Aggregate, Aggregated, Average};
#[cfg(feature = "cursor")]
pub use cursor::{Cursor, CursorError};
pub use error::{LegError, ScatterError, Wanted};
pub use gate::ScatterLimits;
pub use merge::Merged;
pub use order::{KeyType, OrderBy, OrderError, OrderKey};
#[cfg(feature = "cursor")]
pub use page::{Listing, Page};

pub(crate) use gate::Gate;
use legs::Shape;

/// A question to all nodes; see [`Router::scatter`].
#[derive(Clone, Debug)]
#[must_use = "a scatter asks nothing until its answer is awaited"]
pub struct Scatter {
    router: Router,
    statement: Statement,
    among: Option<Vec<VirtualShard>>,
    within: Option<Vec<RegionId>>,
    about: Vec<OwnedKey>,
    key: Option<(String, KeyType)>,
    on_failure: OnFailure,
    limit: Duration,
    deadline: Option<Deadline>,
    policy: ReadPolicy,
}

/// What becomes of an answer when nodes fail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnFailure {
    /// The first failure ends it all.
    #[default]
    FailFast,
    /// What the others say counts, if there are enough of them. Whoever asks sees
    /// the failures beside it.
    BestEffort {
        /// The fewest nodes that have to answer.
        min_ok: usize,
    },
    /// All have to answer, and one that does not is told with all others that do
    /// not. Of [merged](Scatter::merge) rows none is given before each node began.
    AllOrNothing,
}

/// An answer, and who is missing from it.
#[derive(Debug)]
#[non_exhaustive]
pub struct Gathered<T> {
    /// What the nodes said that did answer.
    pub value: T,
    /// The nodes that did not; none unless [`OnFailure::BestEffort`] allows it.
    pub failures: Vec<LegError>,
}

/// The rows of one node.
#[derive(Debug)]
#[non_exhaustive]
pub struct NodeRows {
    /// The node.
    pub node: NodeId,
    /// Its rows, in no particular order.
    pub rows: Vec<Row>,
}

// === impl Router ===

impl Router {
    /// Asks every node `statement`, a `SELECT` with `shard_id = ANY($shards)`
    /// among its conditions. Its own parameters are `$1`, `$2` and so on.
    ///
    /// Where a text differs by engine, it may say for SQLite what that means
    /// there: `shard_id IN (SELECT value FROM json_each($shards))`.
    pub fn scatter(&self, statement: Statement) -> Scatter {
        Scatter {
            router: self.clone(),
            statement,
            among: None,
            within: None,
            about: Vec::new(),
            key: None,
            on_failure: OnFailure::default(),
            limit: Scatter::DEFAULT_LIMIT,
            deadline: None,
            policy: ReadPolicy::Primary,
        }
    }
}

// === impl Scatter ===

impl Scatter {
    /// How long a node may take.
    pub const DEFAULT_LIMIT: Duration = Duration::from_secs(5);

    /// Asks only for these virtual shards, and only the nodes that hold them.
    /// Default: all.
    pub fn among(mut self, shards: impl IntoIterator<Item = VirtualShard>) -> Self {
        self.among = Some(shards.into_iter().collect());
        self
    }

    /// Asks only nodes all of whose servers stand in one of `regions`. What lies
    /// on others is missing from the answer. Default: all nodes.
    pub fn within(mut self, regions: impl IntoIterator<Item = RegionId>) -> Self {
        self.within = Some(regions.into_iter().collect());
        self
    }

    /// Says that the statement is about `table`, as [`Router::table`] does: where a
    /// pin keeps it to regions, and a leg would stand elsewhere, nothing is asked.
    pub fn table(mut self, table: impl Into<Arc<str>>) -> Self {
        self.router = self.router.table(table);
        self
    }

    /// Says that the statement or its parameters tell of `key`, which are sent to
    /// every node: where a [pin](crate::residency) keeps the key to regions, and a
    /// leg would stand elsewhere, nothing is asked. [`within`](Self::within) or
    /// [`among`](Self::among) leave such legs out.
    pub fn about<'k>(mut self, key: impl Into<Key<'k>>) -> Self {
        self.about.push(OwnedKey::new(key.into()));
        self
    }

    /// Names the column of the statement that holds the key by which a row is
    /// routed; then the statement gives that column and `shard_id`.
    ///
    /// It is needed where the map has keys with a node of their own
    /// ([`Target::Node`](crate::Target::Node)), and only then used: such a row
    /// is read from the node of its key and from no other, even if a copy was
    /// left where it lay before.
    pub fn key(mut self, column: impl Into<String>, of: KeyType) -> Self {
        self.key = Some((column.into(), of));
        self
    }

    /// Sets what becomes of the answer when nodes fail. Default:
    /// [`OnFailure::FailFast`].
    pub const fn on_failure(mut self, on_failure: OnFailure) -> Self {
        self.on_failure = on_failure;
        self
    }

    /// Sets how long a node may take, its wait for a place and a connection
    /// counted; of [merged](Self::merge) rows, how long for each few of them.
    /// The server's own limit for statements holds besides, but not for merged
    /// rows. Default: [`Scatter::DEFAULT_LIMIT`].
    pub const fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Bounds the whole. Default: none.
    pub const fn deadline(mut self, deadline: Deadline) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Sets which server of a node may be asked. A node of which a virtual shard is
    /// about to move is read from its primary; so is one whose replica cannot be
    /// reached, or cancels the statement in order to go on replaying. Once it has
    /// given rows to [`merge`](Self::merge), that is a failure
    /// ([`ShardError::Busy`](crate::ShardError::Busy)). A watermark
    /// ([`ReadPolicy::AtLeast`]) is of one node, so with it all primaries are asked.
    /// Default: [`ReadPolicy::Primary`].
    pub const fn policy(mut self, policy: ReadPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// All rows of each node, in memory. One statement per node.
    ///
    /// # Errors
    ///
    /// Returns [`ScatterError`].
    ///
    /// # Cancellation
    ///
    /// Dropped, it ends every leg.
    pub async fn rows(self) -> Result<Gathered<Vec<NodeRows>>, ScatterError> {
        let output = |_| "leg.*".to_owned();
        gather::gather(&self, &Shape::of(&output)).await
    }

    /// When a node that is asked now has to have answered.
    fn until(&self) -> Deadline {
        let limit = Instant::now() + self.limit;
        let deadline = self.deadline.map(Deadline::instant);
        Deadline::at(deadline.map_or(limit, |deadline| deadline.min(limit)))
    }

    fn gate(&self) -> &Arc<Gate> {
        self.router.gate()
    }
}
