//! Transactions as closures, and what became of one.

use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use maxscale_core::fact::VirtualShard;
use tokio::time::{Instant, sleep};

use crate::database::Database;
use crate::engine::verdict;
use crate::error::ShardError;
use crate::sql::{Engine, Outcome, Tx, TxId, TxOptions, Watermark, outcome};

/// What a closure gave, once its transaction is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Committed<T> {
    /// What the closure gave.
    pub value: T,
    /// What a replica must have read to show the commit, if it was asked for.
    pub watermark: Option<Watermark>,
}

/// What a closure does in a transaction, which it is given as `tx`:
/// `|tx| Work::new(async move { .. })`.
///
/// It may borrow what the closure borrows, for `'w`; an async closure could as
/// well, but no future made with one can be sent to another thread.
#[must_use = "nothing is done before it is returned"]
pub struct Work<'w, 't, T, E> {
    pub(crate) future: Pin<Box<dyn Future<Output = Result<T, E>> + Send + 't>>,
    // Says that what is borrowed outlives the transaction.
    outlives: PhantomData<&'t &'w ()>,
}

impl<'t, T, E> Work<'_, 't, T, E> {
    /// Takes the future that does it.
    pub fn new(future: impl Future<Output = Result<T, E>> + Send + 't) -> Self {
        Self {
            future: Box::pin(future),
            outlives: PhantomData,
        }
    }
}

/// For who runs a closure in a transaction that he began himself.
impl<T, E> Future for Work<'_, '_, T, E> {
    type Output = Result<T, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.future.as_mut().poll(cx)
    }
}

impl<T, E> fmt::Debug for Work<'_, '_, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Work").finish_non_exhaustive()
    }
}

/// How one run of a closure ended.
pub(crate) enum Attempt<T, E> {
    Committed(Committed<T>),
    /// Undone because of another transaction.
    Raced(E),
    /// Undone, or nobody knows.
    Failed(E),
}

/// Runs `work` once in `tx`, and ends it.
pub(crate) async fn attempt<'w, T, E: From<ShardError>>(
    mut tx: Tx,
    work: &mut impl for<'t> FnMut(&'t mut Tx) -> Work<'w, 't, T, E>,
) -> Attempt<T, E> {
    let done = work(&mut tx).future.await;
    let raced = tx.raced();
    let (raced, error) = match done {
        Ok(value) => match tx.commit().await {
            Ok(watermark) => return Attempt::Committed(Committed { value, watermark }),
            Err(error) => (raced || verdict::lost_race(&error), error.into()),
        },
        Err(error) => {
            // Undone in any case; this keeps the connection.
            let _ = tx.rollback().await;
            (raced, error)
        }
    };
    if raced {
        Attempt::Raced(error)
    } else {
        Attempt::Failed(error)
    }
}

impl Database {
    /// Runs `work` in a transaction that only reads, and gives what it gives.
    ///
    /// Run again as [`write`](Self::write) does.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write).
    pub async fn read<'w, T, E: From<ShardError>>(
        &self,
        options: TxOptions,
        work: impl for<'t> FnMut(&'t mut Tx) -> Work<'w, 't, T, E>,
    ) -> Result<T, E> {
        let done = self.run(None, options, true, work).await;
        done.map(|committed| committed.value)
    }

    /// Runs `work` in a transaction, and commits what it did if it is `Ok`.
    ///
    /// `work` may run several times: when a statement or the commit fails because
    /// of another transaction (a serialization failure, a deadlock), everything is
    /// undone and it runs again, at once, as often as [`TxOptions::reruns`] allows.
    /// So whatever it does beside its statements must bear that. It never runs
    /// again after a commit with an unknown outcome.
    ///
    /// # Errors
    ///
    /// Returns what `work` returns, and nothing is stored then;
    /// [`ShardError::OutcomeUnknown`] when the answer to the commit was lost.
    pub async fn write<'w, T, E: From<ShardError>>(
        &self,
        options: TxOptions,
        work: impl for<'t> FnMut(&'t mut Tx) -> Work<'w, 't, T, E>,
    ) -> Result<Committed<T>, E> {
        self.run(None, options, false, work).await
    }

    pub(crate) async fn run<'w, T, E: From<ShardError>>(
        &self,
        shard: Option<VirtualShard>,
        options: TxOptions,
        read_only: bool,
        mut work: impl for<'t> FnMut(&'t mut Tx) -> Work<'w, 't, T, E>,
    ) -> Result<Committed<T>, E> {
        let mut reruns = options.most_reruns();
        loop {
            let tx = self.begin_as(shard, &options, read_only).await?;
            match attempt(tx, &mut work).await {
                Attempt::Committed(committed) => return Ok(committed),
                Attempt::Raced(_) if reruns > 0 => reruns -= 1,
                Attempt::Raced(error) | Attempt::Failed(error) => return Err(error),
            }
        }
    }

    /// Finds out what became of a transaction whose commit was not answered.
    ///
    /// One that still runs is waited for, no longer than `limit`: the server may
    /// not have noticed yet that its client is gone. On SQLite there is no id to
    /// ask for.
    ///
    /// It only reads, so it goes on while the node takes no writes. Ask the server
    /// that the error names: to another one of the node the number says nothing,
    /// and it answers [`Outcome::Unknown`]. What a former primary committed after
    /// the promotion of another server is stored there and nowhere else.
    ///
    /// # Errors
    ///
    /// Returns [`ShardError`] when the database cannot be asked.
    pub async fn outcome(&self, tx: &TxId, limit: Duration) -> Result<Outcome, ShardError> {
        if self.engine() == Engine::Sqlite {
            return Ok(Outcome::Unknown);
        }
        let end = Instant::now() + limit;
        let mut pause = Duration::from_millis(5);
        loop {
            let mut conn = self.reader().await?;
            let era = conn.fetch_one(outcome::ERA.statement()).await?;
            let status = conn.fetch_one(outcome::STATUS.statement().bind(tx.number));
            let outcome = tx.outcome(&era, status.await)?;
            if outcome != Outcome::Running || Instant::now() + pause >= end {
                return Ok(outcome);
            }
            drop(conn);
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(200));
        }
    }
}
