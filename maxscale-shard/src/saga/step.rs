//! What a saga's steps do, and where.

use std::fmt;
use std::pin::Pin;

use maxscale_core::BoxError;
use maxscale_core::id::Id;

use super::effect::Effect;
use super::{Saga, StepError};
use crate::key::Key;
use crate::router::Router;
use crate::sql::{Tx, TxOptions, Work};

/// What a saga's steps work on, as the text that is stored with it.
///
/// JSON as a rule. A later version of a program has to read what an earlier one
/// wrote, for as long as that one's sagas are open.
pub trait Payload: Sized + Send + Sync + 'static {
    /// The text to store.
    ///
    /// # Errors
    ///
    /// Returns why there is none; the saga is not begun then.
    fn to_text(&self) -> Result<String, BoxError>;

    /// Reads what [`to_text`](Self::to_text) gave.
    ///
    /// # Errors
    ///
    /// Returns why it cannot be read, which counts as a failure of the step.
    fn from_text(text: &str) -> Result<Self, BoxError>;
}

/// JSON, or any text, as it is.
impl Payload for String {
    fn to_text(&self) -> Result<String, BoxError> {
        Ok(self.clone())
    }

    fn from_text(text: &str) -> Result<Self, BoxError> {
        Ok(text.to_owned())
    }
}

type KeyOf<P> = Box<dyn for<'p> Fn(&'p P) -> Key<'p> + Send + Sync>;
type Do<P> =
    Box<dyn for<'t> Fn(&'t mut Tx, &'t P) -> Work<'static, 't, (), StepError> + Send + Sync>;

/// One step: where its effect lies, how it is made and how it is undone.
pub(super) struct Step<P> {
    pub(super) name: &'static str,
    pub(super) key: KeyOf<P>,
    pub(super) run: Do<P>,
    /// None where nothing is to be undone.
    pub(super) undo: Option<Do<P>>,
}

/// What is asked of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    Do,
    Undo,
    Forget,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Did,
    /// The step is done, and has no compensation.
    Stands,
}

pub(super) type Answering<'a> =
    Pin<Box<dyn Future<Output = Result<Answer, StepError>> + Send + 'a>>;

/// A saga of any payload.
pub(super) trait AnySaga: fmt::Debug + Send + Sync {
    fn name(&self) -> &'static str;

    /// The names of its steps, in order.
    fn steps(&self) -> Vec<&'static str>;

    /// Does what is asked of a step, in a transaction on its shard; nothing if
    /// that was done before.
    fn ask<'a>(
        &'a self,
        router: &'a Router,
        ask: Ask,
        saga: Id,
        step: u32,
        payload: &'a str,
    ) -> Answering<'a>;
}

// === impl Saga ===

impl<P: Payload> AnySaga for Saga<P> {
    fn name(&self) -> &'static str {
        self.0.name
    }

    fn steps(&self) -> Vec<&'static str> {
        self.0.steps.iter().map(|step| step.name).collect()
    }

    fn ask<'a>(
        &'a self,
        router: &'a Router,
        ask: Ask,
        saga: Id,
        step: u32,
        payload: &'a str,
    ) -> Answering<'a> {
        let at = step;
        Box::pin(async move {
            let step = (usize::try_from(at).ok()).and_then(|at| self.0.steps.get(at));
            let step =
                step.ok_or_else(|| StepError::failed("the saga has no such step any more"))?;
            let payload = P::from_text(payload).map_err(StepError::Failed)?;
            let effect = Effect { saga, step: at };
            let (step, payload) = (&step, &payload);
            let done = router.write((step.key)(payload), TxOptions::new(), |tx| {
                Work::new(async move { step.act(tx, ask, effect, payload).await })
            });
            done.await.map(|committed| committed.value)
        })
    }
}

// === impl Step ===

impl<P> Step<P> {
    async fn act(
        &self,
        tx: &mut Tx,
        ask: Ask,
        effect: Effect,
        payload: &P,
    ) -> Result<Answer, StepError> {
        match ask {
            Ask::Do => {
                if effect.done(tx).await? {
                    (self.run)(tx, payload).future.await?;
                }
            }
            Ask::Undo => {
                let Some(undo) = &self.undo else {
                    // It may have been done by a driver that was thought dead.
                    let closed = effect.closed(tx).await?;
                    return Ok(if closed { Answer::Did } else { Answer::Stands });
                };
                if effect.undone(tx).await? {
                    undo(tx, payload).future.await?;
                }
            }
            Ask::Forget => effect.forget(tx).await?,
        }
        Ok(Answer::Did)
    }
}
