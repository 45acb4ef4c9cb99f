//! Writes on several shards, one after the other, that are undone if one fails.
//!
//! ```text
//!  begin, in your transaction ─ step 0 ─ step 1 ─ step 2 ──────────────> Done
//!                                          └ refused ─ undo 1 ─ undo 0 ─> Compensated
//!                                                        └ fails for good ─> Stuck
//! ```
//!
//! A [`Saga`] is a name and steps. Each step runs in one transaction on the shard
//! of its key, together with a row that says so: a step that ran is not run
//! again, whoever crashes and however often. How far the saga is lies in a row
//! of the shard where it was begun, which a driver holds under a lease with a
//! token. [`Sagas`] drives; [`Sagas::recover`] goes on with what nobody drives.
//!
//! # What it guarantees
//!
//! Every saga that was begun ends, once its databases are there: as
//! [`Phase::Done`], every step exactly once, or as [`Phase::Compensated`], what
//! was done undone exactly once, or as [`Phase::Stuck`], which is logged as an
//! error, counted and listed.
//!
//! It does **not** isolate: between two steps others see the first without the
//! second, and what they did with it is theirs. A step that has to hold something
//! for a later one writes that as a state of its row ("reserved").
//!
//! What a step does besides SQL on its transaction (a mail, a payment) happens
//! before its commit, so it may happen twice, or once and the step not: give it
//! a key of its own that the other side knows.

mod driver;
mod effect;
mod error;
mod state;
mod step;
mod store;

use std::fmt;
use std::sync::Arc;

use maxscale_core::id::Id;

use crate::key::Key;
use crate::sql::{Tx, Work};

pub use driver::{Recovered, Sagas, StuckSaga};
pub use error::{SagaError, StepError};
pub use state::Phase;
pub use step::Payload;

use step::Step;

/// A named sequence of steps over a payload. Cheap to clone.
///
/// The name and the steps' order are stored with what was begun: a saga whose
/// steps change in number or order gets a new name, and the old one stays until
/// its last is ended.
///
/// # Examples: how does money go from one shard to another?
///
/// ```
/// # use maxscale_core::BoxError;
/// # use maxscale_core::id::Id;
/// # use maxscale_shard::saga::{Payload, Saga, StepError};
/// # use maxscale_shard::{Key, Work, sql};
/// struct Gift { from: Id, to: Id, cents: i64 }
/// # impl Payload for Gift {
/// #     fn to_text(&self) -> Result<String, BoxError> { unimplemented!() }
/// #     fn from_text(text: &str) -> Result<Self, BoxError> { unimplemented!() }
/// # }
///
/// let gift = Saga::<Gift>::new("gift")
///     .step(
///         "take",
///         |gift| Key::from(gift.from),
///         |tx, gift| Work::new(async move {
///             let take = sql("UPDATE purse SET cents = cents - $3
///                 WHERE shard_id = $1 AND user_id = $2 AND cents >= $3");
///             let take = take.bind(tx.shard()).bind(gift.from).bind(gift.cents);
///             match tx.execute(take).await? {
///                 0 => Err(StepError::refused("the purse holds less")),
///                 _ => Ok(()),
///             }
///         }),
///         |tx, gift| Work::new(async move {
///             let back = sql("UPDATE purse SET cents = cents + $3
///                 WHERE shard_id = $1 AND user_id = $2");
///             let back = back.bind(tx.shard()).bind(gift.from).bind(gift.cents);
///             tx.execute(back).await?;
///             Ok(())
///         }),
///     )
///     .last("give", |gift| Key::from(gift.to), |tx, gift| Work::new(async move {
///         let give = sql("UPDATE purse SET cents = cents + $3
///             WHERE shard_id = $1 AND user_id = $2");
///         let give = give.bind(tx.shard()).bind(gift.to).bind(gift.cents);
///         match tx.execute(give).await? {
///             0 => Err(StepError::refused("there is no such purse")),
///             _ => Ok(()),
///         }
///     }));
/// # let _ = gift;
/// ```
pub struct Saga<P>(Arc<Plan<P>>);

struct Plan<P> {
    name: &'static str,
    steps: Vec<Step<P>>,
}

/// A saga to which steps are added; [`last`](Self::last) makes it a [`Saga`].
#[must_use = "a saga is made by its last step"]
pub struct SagaBuilder<P>(Plan<P>);

// === impl Saga ===

impl<P: Payload> Saga<P> {
    /// Starts a saga called `name`, which no other saga of the fleet is.
    #[expect(clippy::new_ret_no_self, reason = "a saga without a step is none")]
    pub const fn new(name: &'static str) -> SagaBuilder<P> {
        SagaBuilder(Plan {
            name,
            steps: Vec::new(),
        })
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.0.name
    }

    /// Writes the saga in your transaction, which must be of a shard: once that is
    /// committed, the saga will end. [`Sagas::run`] drives it at once.
    ///
    /// Gives false, and writes nothing, if a saga of this id was begun there.
    ///
    /// # Errors
    ///
    /// Returns [`SagaError::NoShard`], [`SagaError::Payload`] or [`SagaError::Shard`].
    pub async fn begin(&self, tx: &mut Tx, id: Id, payload: &P) -> Result<bool, SagaError> {
        let shard = tx.shard().ok_or(SagaError::NoShard)?;
        let name = self.0.name;
        let text = payload.to_text();
        let text = text.map_err(|source| SagaError::Payload { name, source })?;
        Ok(store::begin(tx, shard, id, name, text).await?)
    }
}

impl<P> Clone for Saga<P> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<P> fmt::Debug for Saga<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

// === impl SagaBuilder ===

impl<P: Payload> SagaBuilder<P> {
    /// Adds a step where the key lies that `key` reads from the payload.
    ///
    /// `run` makes its effect and `undo` takes it back, each in one transaction on
    /// that shard ([`Tx::shard`]). Each may run several times, and is committed at
    /// most once. `undo` is never asked for what was not done. A compensation has
    /// to go well in the end: one that is refused leaves the saga stuck.
    pub fn step(
        mut self,
        name: &'static str,
        key: impl for<'p> Fn(&'p P) -> Key<'p> + Send + Sync + 'static,
        run: impl for<'t> Fn(&'t mut Tx, &'t P) -> Work<'static, 't, (), StepError>
        + Send
        + Sync
        + 'static,
        undo: impl for<'t> Fn(&'t mut Tx, &'t P) -> Work<'static, 't, (), StepError>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        self.0.steps.push(Step {
            name,
            key: Box::new(key),
            run: Box::new(run),
            undo: Some(Box::new(undo)),
        });
        self
    }

    /// Adds the last step, after which nothing can fail, so that nothing has to
    /// undo it, and finishes the saga.
    pub fn last(
        mut self,
        name: &'static str,
        key: impl for<'p> Fn(&'p P) -> Key<'p> + Send + Sync + 'static,
        run: impl for<'t> Fn(&'t mut Tx, &'t P) -> Work<'static, 't, (), StepError>
        + Send
        + Sync
        + 'static,
    ) -> Saga<P> {
        self.0.steps.push(Step {
            name,
            key: Box::new(key),
            run: Box::new(run),
            undo: None,
        });
        Saga(Arc::new(self.0))
    }
}

impl<P> fmt::Debug for SagaBuilder<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

// === impl Plan ===

impl<P> fmt::Debug for Plan<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let steps: Vec<_> = self.steps.iter().map(|step| step.name).collect();
        f.debug_struct("Saga")
            .field("name", &self.name)
            .field("steps", &steps)
            .finish()
    }
}
