//! What is dead: kept with all that is known of it, looked at, replayed, removed.

use std::fmt;
use std::num::NonZeroU32;

use maxscale_core::clock::Timestamp;
use maxscale_shard::Node;

use crate::error::QueueError;
use crate::explain::Event;
use crate::job::JobId;
use crate::queue::Queue;
use crate::store;

/// The jobs that are dead, on all nodes; see [`Queue::dead`].
///
/// # Examples: how does what failed yesterday run again, ten jobs a second?
///
/// ```
/// # use maxscale_core::clock::Timestamp;
/// # use maxscale_queue::{DeadFilter, DeadReason, Queue, QueueError};
/// # async fn replay(queue: Queue, since: Timestamp) -> Result<(), QueueError> {
/// let failed = DeadFilter::default()
///     .kind("mail.send")
///     .reason(DeadReason::Failed)
///     .since(since);
/// let ten = 10.try_into().expect("ten is not zero");
/// let replayed = queue.dead().replay(&failed, ten).await?;
/// println!("{replayed} jobs wait again");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct DeadLetters(Queue);

/// Which dead letters; all but those that somebody cancelled unless set otherwise.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct DeadFilter {
    pub(crate) queue: Option<String>,
    pub(crate) kind: Option<String>,
    pub(crate) reason: Option<DeadReason>,
    pub(crate) tag: Option<String>,
    pub(crate) since: Option<Timestamp>,
    pub(crate) until: Option<Timestamp>,
}

/// Why a job is dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeadReason {
    /// Its last attempt failed, or its handler saw that none can succeed.
    Failed,
    /// It killed workers.
    Poison,
    /// Its arguments are not what its handler takes.
    Undecodable,
    /// It was not started in time.
    Expired,
    /// Somebody cancelled it.
    Cancelled,
}

/// A job that is dead.
#[derive(Clone)]
#[non_exhaustive]
pub struct DeadLetter {
    /// The job.
    pub id: JobId,
    /// Its kind, as stored.
    pub kind: String,
    /// The version under which the arguments were written.
    pub version: u32,
    /// Which queue it waited in.
    pub queue: String,
    /// The arguments as they were stored, byte for byte. `Debug` does not show them.
    pub args: String,
    /// Whose key the arguments are sealed under, if they are.
    pub sealed_by: Option<String>,
    /// Whose job it is, if it was said.
    pub tenant: Option<String>,
    /// Attempts begun.
    pub attempt: u32,
    /// How often a worker died or lost its lease while running it.
    pub crashes: u32,
    /// Why it is dead.
    pub reason: DeadReason,
    /// Its tags.
    pub tags: Vec<String>,
    /// What was told last.
    pub last_error: Option<String>,
    /// How its last runs ended, the oldest first.
    pub history: Vec<Event>,
    /// When it was enqueued.
    pub created_at: Timestamp,
    /// When it died.
    pub dead_at: Timestamp,
}

/// How many letters a statement takes at most.
const CHUNK: u32 = 1_000;

// === impl DeadLetters ===

impl DeadLetters {
    pub(crate) const fn new(queue: Queue) -> Self {
        Self(queue)
    }

    /// A dead letter, if the job of that name is one.
    ///
    /// # Errors
    ///
    /// Returns [`QueueError::Shard`] when its shard cannot be asked.
    pub async fn find(&self, id: JobId) -> Result<Option<DeadLetter>, QueueError> {
        let shard = self.0.router().shard(id.as_id())?;
        gather(shard.node()).await?;
        Ok(store::letter_of(&shard, id).await?)
    }

    /// The letters that died first of those that `filter` names, at most `most`; those
    /// after `after`, for the next page.
    ///
    /// # Errors
    ///
    /// Returns [`QueueError::Shard`] when a node cannot be asked.
    pub async fn list(
        &self,
        filter: &DeadFilter,
        after: Option<&DeadLetter>,
        most: u32,
    ) -> Result<Vec<DeadLetter>, QueueError> {
        let after = after.map(|last| (last.dead_at, last.id));
        let mut listed = Vec::new();
        for at in 0..self.0.nodes() {
            let node = self.0.node(at);
            gather(node).await?;
            listed.extend(store::list_dead(&node.background(), filter, after, most).await?);
        }
        listed.sort_unstable_by_key(|letter| (letter.dead_at, letter.id));
        listed.truncate(usize::try_from(most).unwrap_or(usize::MAX));
        Ok(listed)
    }

    /// Has the letters that `filter` names wait again, with all attempts before them and
    /// no expiry; gives their number. They are due one after the other, so many per
    /// second, in the order in which they died: it is stored at once, and goes on
    /// whatever becomes of this process.
    ///
    /// What dies after the call began is not replayed by it. A job that is unique may
    /// come to stand beside another that was enqueued meanwhile. Dropping the future
    /// leaves some replayed and others not.
    ///
    /// # Errors
    ///
    /// Returns [`QueueError::Shard`] when a node cannot be asked; letters of others
    /// may have been replayed.
    pub async fn replay(
        &self,
        filter: &DeadFilter,
        per_second: NonZeroU32,
    ) -> Result<u64, QueueError> {
        let gap = 1_000_000 / i64::from(per_second.get()).max(1);
        let (mut replayed, mut due) = (0, 0);
        for at in 0..self.0.nodes() {
            let node = self.0.node(at);
            gather(node).await?;
            let node = node.background();
            let until = store::now(&node).await?;
            loop {
                let names = store::pick_dead(&node, filter, until, CHUNK).await?;
                let timed: Vec<_> = (names.into_iter())
                    .map(|name| {
                        due += gap;
                        (name, due - gap)
                    })
                    .collect();
                let moved = store::bring_back(&node, &timed).await?;
                replayed += moved;
                // Others that are at the same letters replay them.
                if moved == 0 {
                    break;
                }
            }
            self.0.ring(at);
        }
        Ok(replayed)
    }

    /// Removes the letters that `filter` names and that are dead now; gives their number.
    ///
    /// # Errors
    ///
    /// Returns [`QueueError::Shard`] when a node cannot be asked; letters of others
    /// may have been removed.
    pub async fn purge(&self, filter: &DeadFilter) -> Result<u64, QueueError> {
        let mut purged = 0;
        for at in 0..self.0.nodes() {
            let node = self.0.node(at);
            gather(node).await?;
            let node = node.background();
            let until = store::now(&node).await?;
            loop {
                let names = store::pick_dead(&node, filter, until, CHUNK).await?;
                let removed = store::purge_dead(&node, &names).await?;
                purged += removed;
                if removed == 0 {
                    break;
                }
            }
        }
        Ok(purged)
    }
}

/// Puts to the letters what has died on the node since the last sweep.
async fn gather(node: &Node) -> Result<(), QueueError> {
    while store::set_apart(&node.background(), CHUNK).await? == u64::from(CHUNK) {}
    Ok(())
}

// === impl DeadFilter ===

impl DeadFilter {
    /// Those of one queue. Default: of all.
    pub fn queue(mut self, queue: impl Into<String>) -> Self {
        self.queue = Some(queue.into());
        self
    }

    /// Those of one kind. Default: of all.
    pub fn kind(mut self, kind: impl Into<String>) -> Self {
        self.kind = Some(kind.into());
        self
    }

    /// Those of one reason. Default: of all but [`DeadReason::Cancelled`].
    pub const fn reason(mut self, reason: DeadReason) -> Self {
        self.reason = Some(reason);
        self
    }

    /// Those with a tag. Default: with and without.
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tag = Some(tag.into());
        self
    }

    /// Those that died then or later, by the database's clock. Default: whenever.
    pub const fn since(mut self, time: Timestamp) -> Self {
        self.since = Some(time);
        self
    }

    /// Those that died then or earlier, by the database's clock. Default: whenever.
    pub const fn until(mut self, time: Timestamp) -> Self {
        self.until = Some(time);
        self
    }
}

// === impl DeadReason ===

impl DeadReason {
    const ALL: [Self; 5] = [
        Self::Failed,
        Self::Poison,
        Self::Undecodable,
        Self::Expired,
        Self::Cancelled,
    ];

    /// Its name, as it is stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Poison => "poison",
            Self::Undecodable => "undecodable",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == text)
    }
}

// === impl DeadLetter ===

impl fmt::Debug for DeadLetter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Arguments and errors may be personal.
        f.debug_struct("DeadLetter")
            .field("id", &self.id)
            .field("kind", &self.kind)
            .field("queue", &self.queue)
            .field("reason", &self.reason)
            .field("attempt", &self.attempt)
            .field("crashes", &self.crashes)
            .field("dead_at", &self.dead_at)
            .finish_non_exhaustive()
    }
}
