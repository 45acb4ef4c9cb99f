//! Reads from whichever server of a node will do.

#[cfg(feature = "postgres")]
use std::time::Duration;

#[cfg(feature = "postgres")]
use tokio::time::{Instant, sleep};

use super::node::Node;
#[cfg(feature = "postgres")]
use super::pick::{Candidate, pick};
use super::policy::ReadPolicy;
use super::shard::Shard;
use crate::database::Database;
use crate::error::ShardError;
use crate::sql::Watermark;
#[cfg(feature = "postgres")]
use crate::sql::sql;
use crate::sql::{Attempt, Tx, TxOptions, Work, attempt};
use crate::topology::SlotState;

/// How long a replica is waited for that will show a write in a moment.
#[cfg(feature = "postgres")]
const MOMENT: Duration = Duration::from_millis(25);

/// A replica further behind than this is not worth the wait.
#[cfg(feature = "postgres")]
const FAR_BEHIND: Duration = Duration::from_millis(400);

/// The pauses while it is waited for.
#[cfg(feature = "postgres")]
const PAUSES: [Duration; 3] = [
    Duration::from_millis(2),
    Duration::from_millis(5),
    Duration::from_millis(10),
];

impl Shard {
    /// The database of the server to read from by `policy`: for single statements.
    /// It is not to be kept, as the next read may be better off elsewhere.
    ///
    /// A virtual shard that is about to move is read from the primary.
    pub async fn source(&self, policy: ReadPolicy) -> Database {
        match self.state() {
            SlotState::Serving => self.node().source(policy).await,
            _ => self.node().database().clone(),
        }
    }

    /// Runs `work` in a transaction on this shard that only reads, on the server
    /// that [`TxOptions::policy`] allows. A replica that cannot be reached is
    /// passed over for the primary; one that cancels a statement because it has to
    /// replay what the primary did counts as a lost race, and `work` runs again.
    ///
    /// # Errors
    ///
    /// As [`Database::read`](crate::Database::read).
    pub async fn read<'w, T, E: From<ShardError>>(
        &self,
        options: TxOptions,
        mut work: impl for<'t> FnMut(&'t mut Tx) -> Work<'w, 't, T, E>,
    ) -> Result<T, E> {
        let mut reruns = options.most_reruns();
        loop {
            let tx = self.begin_read(&options).await?;
            match attempt(tx, &mut work).await {
                Attempt::Committed(committed) => return Ok(committed.value),
                Attempt::Raced(_) if reruns > 0 => reruns -= 1,
                Attempt::Raced(error) | Attempt::Failed(error) => return Err(error),
            }
        }
    }

    pub(crate) async fn begin_read(&self, options: &TxOptions) -> Result<Tx, ShardError> {
        let source = self.source(options.read_policy()).await;
        let begun = source.begin_as(Some(self.id()), options, true).await;
        let primary = self.node().database();
        match begun {
            Err(error) if error.is_unreachable() && source.name() != primary.name() => {
                primary.begin_as(Some(self.id()), options, true).await
            }
            begun => begun,
        }
    }
}

#[cfg(not(feature = "postgres"))]
impl Node {
    #[expect(clippy::unused_self, reason = "PostgreSQL's replicas are known")]
    pub(crate) const fn heard(&self, _server: &str, _position: Option<Watermark>) {}

    #[expect(clippy::unused_async, reason = "PostgreSQL's replicas are asked")]
    pub(crate) async fn source(&self, _policy: ReadPolicy) -> Database {
        self.database().clone()
    }
}

#[cfg(feature = "postgres")]
impl Node {
    /// Takes note of how far `server` had come when it was read from, which is known
    /// sooner than by a look: who reads there again need not ask.
    pub(crate) fn heard(&self, server: &str, position: Option<Watermark>) {
        let mut places = self.endpoints().iter();
        let place = places.position(|endpoint| endpoint.database().name() == server);
        if let (Some(place), Some(mark)) = (place, position) {
            self.fresh().heard(place, mark);
        }
    }

    /// The server to read from by `policy`.
    pub(crate) async fn source(&self, policy: ReadPolicy) -> Database {
        let primary = self.database();
        if policy == ReadPolicy::Primary || self.endpoints().len() == 1 {
            return primary.clone();
        }
        let now = Instant::now();
        let (shows, soon) = self.sources(policy, now);
        let draws = [crate::random::draw(), crate::random::draw()];
        if let Some(picked) = pick(shows, draws) {
            return self.endpoints()[picked.place].database().clone();
        }
        if let (ReadPolicy::AtLeast(mark), Some(picked)) = (policy, pick(soon, draws)) {
            let replica = self.endpoints()[picked.place].database();
            if reaches(replica, mark, now + MOMENT).await {
                return replica.clone();
            }
        }
        primary.clone()
    }

    /// The servers that do, and those that may in a moment.
    fn sources(&self, policy: ReadPolicy, now: Instant) -> (Vec<Candidate>, Vec<Candidate>) {
        let primary = self.primary_place();
        let (mut shows, mut soon) = (Vec::new(), Vec::new());
        let fresh = self.fresh();
        for (place, endpoint) in self.endpoints().iter().enumerate() {
            let database = endpoint.database();
            if database.health().is_suspect() {
                continue;
            }
            let candidate = Candidate {
                place,
                distance: self.distance(endpoint),
                in_use: database.in_use(),
            };
            let young = |limit| fresh.age(place, now).is_some_and(|age| age <= limit);
            let does = match policy {
                ReadPolicy::Primary => place == primary,
                ReadPolicy::Replica { max_lag } => place != primary && young(max_lag),
                ReadPolicy::Nearest { max_lag } => place == primary || young(max_lag),
                ReadPolicy::AtLeast(mark) => place != primary && fresh.shows(place, &mark),
            };
            if does {
                shows.push(candidate);
            } else if let ReadPolicy::AtLeast(mark) = policy
                && place != primary
                && fresh.is_current(&mark)
                && young(FAR_BEHIND)
            {
                soon.push(candidate);
            }
        }
        (shows, soon)
    }
}

/// Whether `replica` says before the end that it has replayed `mark`.
#[cfg(feature = "postgres")]
async fn reaches(replica: &Database, mark: Watermark, end: Instant) -> bool {
    let position = i64::try_from(mark.position()).unwrap_or(i64::MAX);
    let reached = || {
        sql("SELECT pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '0/0') >= $1 AS reached")
            .bind(position)
    };
    let ask = async {
        for pause in PAUSES.into_iter().chain(std::iter::repeat(PAUSES[2])) {
            let said = replica.fetch_optional(reached()).await;
            match said.map(|row| row.map(|row| row.get::<Option<bool>>("reached"))) {
                Ok(Some(Ok(Some(true)))) => return true,
                Ok(Some(Ok(_))) => sleep(pause).await,
                _ => return false,
            }
        }
        false
    };
    tokio::time::timeout_at(end, ask).await.unwrap_or(false)
}
