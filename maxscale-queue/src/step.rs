//! What a run does in parts, and tells of itself.

use maxscale_shard::{Shard, Tx, Work};
use serde_core::Serialize;
use serde_core::de::DeserializeOwned;
use serde_json::Value;

use crate::error::QueueError;
use crate::queue::Queue;
use crate::request::JobRequest;
use crate::store;

impl<J> JobRequest<J> {
    /// Does a part of the job once: `work` runs in a transaction on `shard`, in which
    /// its result is kept under `name`. A later run, after a failure or a crash, gets that
    /// result and does not do it again.
    ///
    /// `shard` is that of the job. The transaction holds the job's row: no step of a job is
    /// done twice at once, and a worker that lost its lease does none. All results of a
    /// job together have at most [`Queue::MAX_ARGS`] bytes; longer work goes on by
    /// [`Outcome::Continue`](crate::Outcome::Continue).
    ///
    /// Dropped, or after an error of the commit, it was done or was not, as the next run
    /// will find.
    ///
    /// # Examples: how is a customer charged once, however often the mail fails?
    ///
    /// ```
    /// # use maxscale_queue::{Job, JobRequest, Outcome, QueueError};
    /// # use maxscale_shard::{Router, Work, sql};
    /// # async fn order<J: Job>(router: &Router, request: &JobRequest<J>) -> Result<(), QueueError> {
    /// let shard = router.virtual_shard(request.shard())?;
    /// let charged: i64 = request
    ///     .step(&shard, "charge", |tx| {
    ///         Work::new(async move {
    ///             let charge = sql("INSERT INTO charge (shard_id, cents) VALUES ($1, 100)");
    ///             tx.execute(charge.bind(request.shard())).await?;
    ///             Ok::<_, QueueError>(100)
    ///         })
    ///     })
    ///     .await?;
    /// # let _ = charged;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns what `work` returns, and nothing is stored then. [`QueueError::StaleLease`]
    /// when the job is no longer this worker's, [`QueueError::WrongShard`] for another
    /// shard, [`QueueError::TooLarge`] for too much, and [`QueueError::Step`] when what an
    /// earlier program kept is not a `T`.
    pub async fn step<'w, T, E>(
        &self,
        shard: &Shard,
        name: &str,
        work: impl for<'t> FnOnce(&'t mut Tx) -> Work<'w, 't, T, E>,
    ) -> Result<T, E>
    where
        T: Serialize + DeserializeOwned,
        E: From<QueueError>,
    {
        let mut tx = shard.begin().await.map_err(QueueError::from)?;
        let lease = self.lease_in(&tx)?;
        let steps = store::steps(&mut tx, lease).await;
        let steps = steps.map_err(QueueError::from)?;
        let stale = QueueError::StaleLease { job: lease.job };
        let mut steps = steps.ok_or(stale)?;
        let mistaken = |source| QueueError::Step {
            name: name.to_owned(),
            source,
        };
        if let Some(kept) = steps.remove(name) {
            tx.rollback().await.map_err(QueueError::from)?;
            return Ok(serde_json::from_value(kept).map_err(mistaken)?);
        }
        let result = work(&mut tx).await?;
        let kept = serde_json::to_value(&result).map_err(mistaken)?;
        steps.insert(name.to_owned(), kept);
        let steps = bounded(&Value::from(steps))?;
        let kept = store::keep(&mut tx, lease, steps).await;
        kept.map_err(QueueError::from)?;
        tx.commit().await.map_err(QueueError::from)?;
        Ok(result)
    }

    /// Tells how far the run is, for [`JobStatus::progress`](crate::JobStatus::progress).
    /// It costs a write: tell it now and then.
    ///
    /// Safe to drop: it was told or was not.
    ///
    /// # Errors
    ///
    /// Returns [`QueueError::StaleLease`] when the job is no longer this worker's,
    /// [`QueueError::TooLarge`] over [`Queue::MAX_ARGS`], and [`QueueError::Shard`] when
    /// its node cannot be asked.
    pub async fn progress(&self, progress: &Value) -> Result<(), QueueError> {
        let held = self.held();
        let lease = &held.facts.lease;
        if store::progress(&held.node, lease, bounded(progress)?).await? {
            return Ok(());
        }
        Err(QueueError::StaleLease { job: lease.job })
    }
}

fn bounded(value: &Value) -> Result<String, QueueError> {
    let text = value.to_string();
    if text.len() > Queue::MAX_ARGS {
        return Err(QueueError::TooLarge {
            size: text.len(),
            limit: Queue::MAX_ARGS,
        });
    }
    Ok(text)
}
