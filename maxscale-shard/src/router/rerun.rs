//! Transactions by key, which outlast a change of the map.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{Router, Shard};
use crate::error::ShardError;
use crate::key::Key;
use crate::sql::{Attempt, Committed, Tx, TxOptions, Work, attempt};

/// How long a key whose shard changes hands is waited for; that takes less.
const FREEZE: Duration = Duration::from_secs(2);
const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

impl Router {
    /// Runs `work` in a transaction that only reads, where `key` lies.
    ///
    /// Run again as [`write`](Self::write) does.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write).
    pub async fn read<'w, 'k, T, E: From<ShardError>>(
        &self,
        key: impl Into<Key<'k>>,
        options: TxOptions,
        work: impl for<'t> FnMut(&'t mut Tx) -> Work<'w, 't, T, E>,
    ) -> Result<T, E> {
        let done = self.run(key.into(), options, true, work).await;
        done.map(|committed| committed.value)
    }

    /// Runs `work` in a transaction where `key` lies, and commits what it did if
    /// it is `Ok`.
    ///
    /// Beside [`Database::write`](crate::Database::write), which runs `work` again
    /// after a lost race, this bears that the map changes: a key whose virtual
    /// shard is [frozen](crate::SlotState::Frozen) is waited for, up to 2 s or the
    /// deadline, and one that has moved while a connection was waited for is
    /// followed to its new node before `work` runs. What [`Tx::shard`] gives is
    /// right each time, so `work` asks that and not a shard from before.
    ///
    /// # Errors
    ///
    /// As [`Database::write`](crate::Database::write) and [`Router::shard`].
    ///
    /// # Examples: which statements belong together?
    ///
    /// ```
    /// # use maxscale_core::id::Id;
    /// # use maxscale_shard::{Router, ShardError, TxOptions, Work, sql};
    /// # async fn pay(router: &Router, user: Id, cents: i64) -> Result<(), ShardError> {
    /// router
    ///     .write(user, TxOptions::new(), |tx| {
    ///         Work::new(async move {
    ///             let shard = tx.shard();
    ///             let spend = sql("UPDATE purse SET cents = cents - $3
    ///                 WHERE shard_id = $1 AND user_id = $2 AND cents >= $3");
    ///             tx.execute(spend.bind(shard).bind(user).bind(cents)).await
    ///         })
    ///     })
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn write<'w, 'k, T, E: From<ShardError>>(
        &self,
        key: impl Into<Key<'k>>,
        options: TxOptions,
        work: impl for<'t> FnMut(&'t mut Tx) -> Work<'w, 't, T, E>,
    ) -> Result<Committed<T>, E> {
        self.run(key.into(), options, false, work).await
    }

    async fn run<'w, T, E: From<ShardError>>(
        &self,
        key: Key<'_>,
        options: TxOptions,
        read_only: bool,
        mut work: impl for<'t> FnMut(&'t mut Tx) -> Work<'w, 't, T, E>,
    ) -> Result<Committed<T>, E> {
        let end = Instant::now() + FREEZE;
        let end = options
            .until()
            .map_or(end, |until| until.instant().min(end));
        let mut reruns = options.most_reruns();
        loop {
            let shard = self.thawed(key, end).await?;
            let tx = match read_only {
                true => shard.begin_read(&options).await?,
                false => shard.begin_with(&options).await?,
            };
            // A connection may have been waited for longer than a move takes.
            if !self.is_still(&shard, key) && Instant::now() < end {
                // Undone in any case; this keeps the connection.
                let _ = tx.rollback().await;
                continue;
            }
            match attempt(tx, &mut work).await {
                Attempt::Committed(committed) => return Ok(committed),
                Attempt::Raced(_) if reruns > 0 => reruns -= 1,
                Attempt::Raced(error) | Attempt::Failed(error) => return Err(error),
            }
        }
    }

    /// The shard of `key`, once it is not frozen.
    async fn thawed(&self, key: Key<'_>, end: Instant) -> Result<Shard, ShardError> {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.shard(key) {
                Err(ShardError::Frozen { .. }) if Instant::now() + pause < end => {
                    sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                found => return found,
            }
        }
    }

    fn is_still(&self, shard: &Shard, key: Key<'_>) -> bool {
        self.shard(key)
            .is_ok_and(|now| now.id() == shard.id() && now.node().id() == shard.node().id())
    }
}
