use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use maxscale_core::Chain;
use maxscale_core::meter::span::{self, JobSpan, Origin, Root};
use maxscale_core::refusal::Class;
use maxscale_shard::Database;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use super::ending::ending;
use super::node::Settlement;
use super::standing::Keep;
use super::{Phase, Shared, race, reached};
use crate::cancellation::Canceller;
use crate::failure::Failure;
use crate::job::Outcome;
use crate::request::Held;
use crate::seal::{Place, StoredArgs, Unopened};
use crate::store::{Claimed, Ended, Ending, Facts};

/// One run of one job, from its claim to its settlement.
pub(super) struct Run {
    pub(super) shared: Arc<Shared>,
    /// Where the job's row is.
    pub(super) node: Database,
    /// The job's place among those that the worker has.
    pub(super) keep: Keep,
    pub(super) settle: mpsc::Sender<Settlement>,
    pub(super) phase: watch::Receiver<Phase>,
    /// Free again only when the settlement is acknowledged.
    pub(super) slot: Option<OwnedSemaphorePermit>,
    /// Of a job that ran when a worker died.
    pub(super) _suspect: Option<OwnedSemaphorePermit>,
}

/// How the handler's task ended.
enum Stop {
    Ended(Result<Outcome, JoinError>),
    /// It was stopped before its end.
    Halted(Why),
}

/// Why a handler is stopped.
#[derive(Clone, Copy, Debug)]
enum Why {
    /// The worker shuts down.
    Shutdown,
    /// The job was cancelled.
    Asked,
    /// It takes longer than this.
    Late(Duration),
    /// The job is no longer surely this worker's.
    Lost,
}

/// How long an aborted handler may take to reach an await.
const UNWIND: Duration = Duration::from_secs(1);
/// How long a job is put off whose key cannot be had.
const KEYS_AGAIN: Duration = Duration::from_secs(5);

// === impl Run ===

impl Run {
    /// Runs the handler under the lease, and settles.
    pub(super) async fn supervise(self, claimed: Claimed) {
        let Claimed {
            kind,
            args,
            mut facts,
            ..
        } = claimed;
        let described = JobSpan {
            kind: &kind,
            queue: self.shared.handlers[kind.as_str()].queue,
            job: &facts.lease.job,
            attempt: facts.attempt,
        };
        let root = span::job(described, &self.origin(&facts));
        facts.trace = Some(root.context().clone());
        let inside = self.inside(&kind, args, facts, root.clone());
        root.around(inside).await;
    }

    /// The first attempt is part of what enqueued it. What comes later was caused by
    /// that, and may come so late that nobody would wait for the end of its trace.
    fn origin(&self, facts: &Facts) -> Origin {
        let random = Uuid::new_v4().as_u128();
        let begun = Origin::new(self.shared.sampler, random);
        match &facts.trace {
            Some(cause) if facts.attempt <= 1 && facts.crashes == 0 => {
                Origin::within(cause.clone(), random)
            }
            Some(cause) if cause.is_sampled() => begun.sampled().linked(cause.clone()),
            _ => begun,
        }
    }

    async fn inside(mut self, kind: &str, args: StoredArgs, facts: Facts, root: Root) {
        if !self.may_start().await {
            return self.settle(facts, Ending::HandBack, Duration::ZERO).await;
        }
        let completed = Arc::new(AtomicBool::new(false));
        let registered = &self.shared.handlers[kind];
        let (sealed, job) = (args.sealed_by.is_some(), facts.lease.job);
        let place = Place {
            queue: registered.queue,
            kind,
            job,
        };
        let args = match self.shared.seals.open(args, place) {
            Ok(args) => args,
            Err(unopened) => return self.settle(facts, unopened.into(), Duration::ZERO).await,
        };
        let (canceller, cancellation) = Canceller::new();
        let held = Held {
            facts: facts.clone(),
            completed: completed.clone(),
            cancellation,
            node: self.node.clone(),
        };
        let began = Instant::now();
        let ending = match (registered.handler)(&args, held) {
            // The error's text has pieces of the arguments in it.
            Err(error) if sealed => Ending::Undecodable {
                reason: format!("cannot decode the arguments: column {}", error.column()),
            },
            Err(error) => Ending::Undecodable {
                reason: format!("cannot decode the arguments: {error}"),
            },
            Ok(run) => {
                let mut task = JoinSet::new();
                task.spawn(root.around(run));
                let limit = facts.timeout.unwrap_or(registered.timeout);
                let Some(stop) = self.stopped(&mut task, limit, &canceller).await else {
                    tracing::warn!("left without an end");
                    self.shared.counts.lost.add(1);
                    // Given back once the handler has stopped, however long that takes, or
                    // taken by others once the lease has run out.
                    return task.shutdown().await;
                };
                self.ending(stop, &facts)
            }
        };
        self.shared.counts.ran(registered.kind, began.elapsed());
        if completed.load(Ordering::Acquire) {
            // Its row says done; whatever the handler did afterwards changes nothing.
            tracing::debug!("done");
            self.shared.counts.done.add(1);
            return;
        }
        self.settle(facts, ending, began.elapsed()).await;
    }

    /// Waits for a slot if the claim lost its own; false if the worker drains.
    async fn may_start(&mut self) -> bool {
        if *self.phase.borrow() != Phase::Open {
            return false;
        }
        if self.slot.is_none() {
            let draining = async {
                reached(&mut self.phase, Phase::Draining).await;
                None
            };
            let slots = self.shared.slots.clone();
            self.slot = race(draining, async { slots.acquire_owned().await.ok() }).await;
        }
        self.slot.is_some()
    }

    /// Waits for the handler's end, or stops it; `None` if it has no end that is this
    /// worker's to tell.
    async fn stopped(
        &self,
        task: &mut JoinSet<Outcome>,
        limit: Duration,
        canceller: &Canceller,
    ) -> Option<Stop> {
        let why = match race(async { Ok(next(task).await) }, async {
            Err(self.stops(limit).await)
        })
        .await
        {
            Ok(ended) => return Some(Stop::Ended(ended)),
            Err(why) => why,
        };
        canceller.cancel();
        task.abort_all();
        let ended = match why {
            Why::Lost => return None,
            Why::Shutdown => timeout(UNWIND, next(task)).await.ok()?,
            // As long as it does not reach an await, it runs and is not for others.
            Why::Asked | Why::Late(_) => {
                let ended = async { Some(next(task).await) };
                let given_up = async {
                    race(self.keep.passed(), self.shutdown()).await;
                    None
                };
                race(ended, given_up).await?
            }
        };
        match ended {
            Err(error) if error.is_cancelled() => Some(Stop::Halted(why)),
            // It came to its end at the last moment.
            ended => Some(Stop::Ended(ended)),
        }
    }

    /// Waits for a reason to stop the handler.
    async fn stops(&self, limit: Duration) -> Why {
        let shutdown = async {
            self.shutdown().await;
            Why::Shutdown
        };
        let lost = async {
            self.keep.passed().await;
            Why::Lost
        };
        let asked = async {
            self.keep.asked().await;
            Why::Asked
        };
        let late = async {
            sleep(limit).await;
            Why::Late(limit)
        };
        race(race(lost, shutdown), race(asked, late)).await
    }

    async fn shutdown(&self) {
        reached(&mut self.phase.clone(), Phase::Aborting).await;
    }

    fn ending(&self, stop: Stop, facts: &Facts) -> Ending {
        let outcome = match stop {
            Stop::Ended(Ok(outcome)) => outcome,
            Stop::Ended(Err(error)) => {
                Outcome::Retry(Failure::from(panicked(error)).class(Class::Internal))
            }
            Stop::Halted(Why::Late(limit)) => {
                let late = format!("timed out after {limit:?}");
                Outcome::Retry(Failure::from(late).class(Class::Timeout))
            }
            Stop::Halted(Why::Asked) => Outcome::Cancel("cancelled".to_owned()),
            Stop::Halted(Why::Shutdown | Why::Lost) => return Ending::HandBack,
        };
        ending(outcome, facts, &self.shared.waits, (self.shared.random)())
    }

    async fn settle(mut self, facts: Facts, ending: Ending, ran: Duration) {
        match &ending {
            Ending::Done { .. } => tracing::debug!("done"),
            Ending::Retry { after, error } => tracing::warn!(error, ?after, "failed; will retry"),
            Ending::Dead { reason } | Ending::Undecodable { reason } => {
                tracing::error!(reason, "dead");
            }
            Ending::Snooze { after } => tracing::debug!(?after, "snoozed"),
            Ending::Continue { .. } => tracing::debug!("will go on"),
            Ending::Cancelled { reason } => tracing::info!(reason, "cancelled"),
            Ending::HandBack => tracing::info!("handed back"),
        }
        let (told, answer) = oneshot::channel();
        let counts = &self.shared.counts;
        let counter = counts.of(&ending);
        let lease = facts.lease;
        let ended = Ended { lease, ending, ran };
        let Ok(place) = self.settle.reserve().await else {
            return;
        };
        // Others may run while this end is stored: no more of them than places here.
        drop(self.slot.take());
        place.send(Settlement { ended, told });
        match answer.await {
            Ok(true) => counter.add(1),
            Ok(false) => {
                tracing::warn!("the row did not take this end: its lease was lost");
                counts.lost.add(1);
            }
            Err(_) => {
                tracing::warn!("this end could not be stored; the job will run again");
                counts.lost.add(1);
            }
        }
    }
}

/// A key that cannot be had is no fault of the job's.
impl From<Unopened> for Ending {
    fn from(unopened: Unopened) -> Self {
        match unopened {
            Unopened::Later(why) => {
                tracing::warn!(error = %Chain(&*why), "cannot open the arguments now");
                Self::Snooze { after: KEYS_AGAIN }
            }
            Unopened::Never(why) => Self::Undecodable {
                reason: format!("cannot open the arguments: {}", Chain(&*why)),
            },
        }
    }
}

/// The one task's end.
async fn next(task: &mut JoinSet<Outcome>) -> Result<Outcome, JoinError> {
    let ended = task.join_next().await;
    ended.expect("one task was spawned and is joined once")
}

fn panicked(error: JoinError) -> String {
    let payload: Box<dyn Any + Send> = match error.try_into_panic() {
        Ok(payload) => payload,
        Err(cancelled) => return cancelled.to_string(),
    };
    let text = (payload.downcast_ref::<&str>().copied())
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    format!("panicked: {}", text.unwrap_or("no text"))
}
