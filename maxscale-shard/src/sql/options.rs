use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::Duration;

use maxscale_core::fact::Deadline;
use tokio::time::Instant;

use crate::router::ReadPolicy;
use crate::sql::Engine;

/// How a transaction is begun.
#[derive(Clone, Copy, Debug, Default)]
#[must_use]
pub struct TxOptions {
    isolation: Isolation,
    id: bool,
    watermark: bool,
    deadline: Option<Deadline>,
    reruns: Option<u32>,
    policy: ReadPolicy,
}

/// How far a transaction is kept from what others do meanwhile. SQLite has one
/// writer at a time, so that each is as good as serializable there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Isolation {
    /// Each statement sees what was committed before it.
    #[default]
    ReadCommitted,
    /// All statements see what was committed before the first one.
    RepeatableRead,
    /// As if one transaction ran after the other. Any statement, and the commit,
    /// may fail because of another transaction.
    Serializable,
}

// === impl TxOptions ===

impl TxOptions {
    /// How often a closure is run again after losing a race.
    pub const DEFAULT_RERUNS: u32 = 3;

    /// Read committed, without an id and a watermark.
    pub const fn new() -> Self {
        Self {
            isolation: Isolation::ReadCommitted,
            id: false,
            watermark: false,
            deadline: None,
            reruns: None,
            policy: ReadPolicy::Primary,
        }
    }

    /// Sets the isolation. Default: [`Isolation::ReadCommitted`].
    pub const fn isolation(mut self, isolation: Isolation) -> Self {
        self.isolation = isolation;
        self
    }

    /// Gives the transaction an id, by which [`Database::outcome`](crate::Database::outcome)
    /// finds out whether it was committed. Costs a round trip. Default: none.
    pub const fn with_id(mut self) -> Self {
        self.id = true;
        self
    }

    /// Brings a [`Watermark`](crate::Watermark) with the answer to the commit. Default: none.
    pub const fn with_watermark(mut self) -> Self {
        self.watermark = true;
        self
    }

    /// Bounds each statement, in the server and here. Default: the database's
    /// own limits alone.
    pub const fn deadline(mut self, deadline: Deadline) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Sets how often [`write`](crate::Database::write) runs its closure again
    /// after a serialization failure or a deadlock. Default:
    /// [`TxOptions::DEFAULT_RERUNS`].
    pub const fn reruns(mut self, reruns: u32) -> Self {
        self.reruns = Some(reruns);
        self
    }

    /// Sets which server of a node [`Shard::read`](crate::Shard::read) and
    /// [`Router::read`](crate::Router::read) may ask. Writes, and reads of one
    /// [`Database`](crate::Database), are not concerned. Default:
    /// [`ReadPolicy::Primary`].
    pub const fn policy(mut self, policy: ReadPolicy) -> Self {
        self.policy = policy;
        self
    }

    pub(crate) const fn read_policy(&self) -> ReadPolicy {
        self.policy
    }

    pub(crate) fn most_reruns(&self) -> u32 {
        self.reruns.unwrap_or(Self::DEFAULT_RERUNS)
    }

    pub(crate) const fn wants_id(&self) -> bool {
        self.id
    }

    pub(crate) const fn wants_watermark(&self) -> bool {
        self.watermark
    }

    pub(crate) const fn until(&self) -> Option<Deadline> {
        self.deadline
    }

    /// The message that begins the transaction; `limits` are set in it.
    pub(crate) fn begin(
        &self,
        engine: Engine,
        read_only: bool,
        limits: &[(&str, String)],
        statement_timeout: Duration,
    ) -> Cow<'static, str> {
        if engine == Engine::Sqlite {
            return Cow::Borrowed(if read_only {
                "BEGIN"
            } else {
                "BEGIN IMMEDIATE"
            });
        }
        let mut text = Cow::Borrowed(match self.isolation {
            Isolation::ReadCommitted => "BEGIN",
            Isolation::RepeatableRead => "BEGIN ISOLATION LEVEL REPEATABLE READ",
            Isolation::Serializable => "BEGIN ISOLATION LEVEL SERIALIZABLE",
        });
        if read_only {
            text += " READ ONLY";
        }
        for (name, value) in limits {
            // Writing to a text cannot fail.
            let _ = write!(text.to_mut(), "; SET LOCAL {name} = {value}");
        }
        if let Some(deadline) = self.deadline {
            let left = deadline.instant() - Instant::now();
            // Zero would be no limit at all.
            let left = left.max(Duration::from_millis(1));
            if statement_timeout.is_zero() || left < statement_timeout {
                let _ = write!(
                    text.to_mut(),
                    "; SET LOCAL statement_timeout = {}",
                    left.as_millis()
                );
            }
        }
        text
    }
}
