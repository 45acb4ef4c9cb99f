//! Drives sagas: takes one, does or undoes a step, notes it, goes on.

mod counts;
mod recover;

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use maxscale_core::Chain;
use maxscale_core::control::Backoff;
use maxscale_core::id::Id;
use maxscale_core::meter::Meter;
use tokio::time::timeout;

use super::state::{Action, Event, Patience, Phase};
use super::step::{Answer, Answering, AnySaga, Ask, Payload};
use super::store::{Home, Taken};
use super::{Saga, SagaError, StepError};
use crate::error::ShardError;
use crate::router::{Router, Shard};

use counts::Counts;
pub use recover::{Recovered, StuckSaga};

/// Drives the sagas that it was told of. Cheap to clone.
///
/// Any number of drivers, in any number of processes, may do so side by side: a
/// saga is driven by who holds its lease, and one that loses it while it works
/// changes nothing any more.
#[derive(Clone, Debug)]
pub struct Sagas {
    router: Router,
    known: Vec<Arc<dyn AnySaga>>,
    lease: Duration,
    patience: Patience,
    counts: Counts,
}

/// The longest text that is kept of why a step failed.
const PROBLEM: usize = 1_000;

// === impl Sagas ===

impl Sagas {
    /// How long a driver has for one step.
    pub const DEFAULT_LEASE: Duration = Duration::from_secs(30);
    /// How often a step is tried that fails for a reason that does not pass by itself.
    pub const DEFAULT_TRIES: u32 = 5;
    /// The first and the longest pause after a failure.
    pub const DEFAULT_PAUSES: (Duration, Duration) =
        (Duration::from_millis(200), Duration::from_secs(60));
    /// How long ended sagas are kept at least, so that a driver which comes late
    /// finds what it was about to do done.
    pub const DEFAULT_KEEP: Duration = Duration::from_secs(7 * 24 * 60 * 60);

    /// Knows no saga yet.
    pub fn new(router: Router) -> Self {
        let (base, cap) = Self::DEFAULT_PAUSES;
        Self {
            router,
            known: Vec::new(),
            lease: Self::DEFAULT_LEASE,
            patience: Patience {
                tries: Self::DEFAULT_TRIES,
                backoff: Backoff::new(base, cap),
            },
            counts: Counts::default(),
        }
    }

    /// Adds a saga; the last one of a name counts.
    #[must_use]
    pub fn with<P: Payload>(mut self, saga: &Saga<P>) -> Self {
        self.known.retain(|known| known.name() != saga.name());
        self.known.push(Arc::new(saga.clone()));
        self
    }

    /// Sets how long a step may take. After that its driver gives it up, and
    /// another one may take the saga. Default: [`Sagas::DEFAULT_LEASE`].
    #[must_use]
    pub const fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// Sets how often a step is tried, at least once. Default: [`Sagas::DEFAULT_TRIES`].
    #[must_use]
    pub const fn tries(mut self, tries: u32) -> Self {
        self.patience.tries = tries;
        self
    }

    /// Sets the first pause after a failure, and the longest. Default:
    /// [`Sagas::DEFAULT_PAUSES`].
    #[must_use]
    pub const fn pauses(mut self, first: Duration, longest: Duration) -> Self {
        self.patience.backoff = Backoff::new(first, longest);
        self
    }

    /// Counts how sagas end: `maxscale.saga.ended`, by `outcome` (`done`,
    /// `compensated`, `stuck`).
    #[must_use]
    pub fn meter(mut self, meter: &Meter) -> Self {
        self.counts = Counts::register(meter);
        self
    }

    /// Drives the saga `id`, which was begun on `shard`, until it ends or has to
    /// wait; gives how far it is then.
    ///
    /// Where it waits after a failure, or another driver has it, this returns at
    /// once with [`Phase::Forward`] or [`Phase::Backward`], and
    /// [`recover`](Self::recover) goes on with it when it is due.
    ///
    /// # Errors
    ///
    /// Returns [`SagaError::NotFound`], [`SagaError::Unknown`] or [`SagaError::Shard`].
    ///
    /// # Cancellation
    ///
    /// Dropped at any await, the saga stays where it is until the lease runs out.
    pub async fn run(&self, shard: &Shard, id: Id) -> Result<Phase, SagaError> {
        self.drive(&Home::on(shard, id)).await
    }

    /// How far the saga `id` is, which was begun on `shard`.
    ///
    /// # Errors
    ///
    /// Returns [`SagaError::NotFound`] or [`SagaError::Shard`].
    pub async fn phase(&self, shard: &Shard, id: Id) -> Result<Phase, SagaError> {
        Home::on(shard, id).phase().await
    }

    /// Tries the compensation again at which the saga `id` is stuck, and then
    /// goes on with it as [`run`](Self::run) does. One that is not stuck is only run.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
    pub async fn retry(&self, shard: &Shard, id: Id) -> Result<Phase, SagaError> {
        let home = Home::on(shard, id);
        home.retry().await?;
        self.drive(&home).await
    }

    fn known(&self, name: &str) -> Option<&dyn AnySaga> {
        let known = self.known.iter().find(|known| known.name() == name);
        known.map(|known| &**known)
    }

    async fn drive(&self, home: &Home) -> Result<Phase, SagaError> {
        let Some(mut taken) = home.take(self.lease).await? else {
            return home.phase().await;
        };
        let Some(saga) = self.known(&taken.name) else {
            // Left to whoever knows it, and out of the way of the others meanwhile.
            home.save(&taken, None, self.lease).await?;
            return Err(SagaError::Unknown { name: taken.name });
        };
        let steps = saga.steps();
        let count = u32::try_from(steps.len()).unwrap_or(u32::MAX);
        loop {
            let at = taken.state;
            let (event, problem) = self.turn(saga, home, &taken).await;
            let (next, action) = at.on(event, count, &self.patience);
            taken.state = next;
            let due = match action {
                Action::GoOn => self.lease,
                Action::Wait(pause) => pause,
                Action::End => Duration::ZERO,
            };
            let step = usize::try_from(at.step).ok().and_then(|at| steps.get(at));
            if let Some(problem) = &problem {
                tracing::debug!(saga = saga.name(), id = %home.id, step, problem, "a step failed");
            }
            if !home.save(&taken, problem.as_deref(), due).await? {
                // Its lease ran out, and somebody else has gone on with it.
                return home.phase().await;
            }
            match action {
                Action::GoOn => {}
                Action::Wait(_) => return Ok(next.phase),
                Action::End => {
                    self.counts.ended(next.phase);
                    if next.phase == Phase::Stuck {
                        let (shard, node) = (home.shard, home.database.name());
                        tracing::error!(
                            saga = saga.name(), id = %home.id, %shard, node, step, problem,
                            "a saga is stuck: a compensation failed for good"
                        );
                    }
                    return Ok(next.phase);
                }
            }
        }
    }

    /// Does or undoes the step where the saga stands.
    async fn turn(
        &self,
        saga: &dyn AnySaga,
        home: &Home,
        taken: &Taken,
    ) -> (Event, Option<String>) {
        let ask = match taken.state.phase {
            Phase::Forward => Ask::Do,
            _ => Ask::Undo,
        };
        let (step, payload) = (taken.state.step, &taken.payload);
        let turn = saga.ask(&self.router, ask, home.id, step, payload);
        let error = match timeout(self.lease, caught(turn)).await {
            Ok(Ok(Answer::Did)) => return (Event::Did, None),
            Ok(Ok(Answer::Stands)) => return (Event::Stands, None),
            Ok(Err(error)) => error,
            Err(_) => StepError::failed(format!("it took longer than {:?}", self.lease)),
        };
        let mut problem = Chain(&error).to_string();
        problem.truncate(problem.floor_char_boundary(PROBLEM));
        (event(&error), Some(problem))
    }
}

/// Lets a step that panics fail, and not the pass that drives it. Its
/// transaction is undone by being dropped.
async fn caught(mut turn: Answering<'_>) -> Result<Answer, StepError> {
    let polled = poll_fn(|cx| {
        let poll = AssertUnwindSafe(|| turn.as_mut().poll(cx));
        let panicked = |_| Poll::Ready(Err(StepError::failed("it panicked")));
        catch_unwind(poll).unwrap_or_else(panicked)
    });
    polled.await
}

/// What an error says about the step.
fn event(error: &StepError) -> Event {
    match error {
        StepError::Refused(_) => Event::Refused,
        // Where nobody knows, the effect's row will tell.
        StepError::Shard(ShardError::Deadline { .. } | ShardError::OutcomeUnknown { .. }) => {
            Event::Away
        }
        StepError::Shard(error) if error.may_pass() => Event::Away,
        StepError::Failed(_) | StepError::Shard(_) => Event::Failed,
    }
}
