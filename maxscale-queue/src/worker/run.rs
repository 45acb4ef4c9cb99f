use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use maxscale_core::Chain;
use maxscale_core::meter::span::{self, JobSpan, Origin, Root};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::timeout;
use uuid::Uuid;

use super::node::Settlement;
use super::standing::Keep;
use super::{Phase, Shared, race, reached};
use crate::job::Outcome;
use crate::store::{Claimed, Ending, Facts};

/// One run of one job, from its claim to its settlement.
pub(super) struct Run {
    pub(super) shared: Arc<Shared>,
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
    /// For a shutdown.
    Aborted,
}

/// How long an aborted handler may take to reach an await.
const UNWIND: Duration = Duration::from_secs(1);

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
        let inside = self.inside(&kind, &args, facts, root.clone());
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

    async fn inside(mut self, kind: &str, args: &str, facts: Facts, root: Root) {
        if !self.may_start().await {
            return self.settle(facts, Ending::HandBack).await;
        }
        let completed = Arc::new(AtomicBool::new(false));
        let handler = &self.shared.handlers[kind].handler;
        let ending = match handler(args, facts.clone(), completed.clone()) {
            Err(error) => Ending::Dead {
                reason: format!("cannot decode the arguments: {error}"),
            },
            Ok(run) => {
                let mut task = JoinSet::new();
                task.spawn(root.around(run));
                let lost = async {
                    self.keep.passed().await;
                    None
                };
                let stop = race(stopped(&mut task, &mut self.phase), lost).await;
                let Some(stop) = stop else {
                    tracing::warn!("left without an end");
                    self.shared.counts.lost.add(1);
                    // Given back once the handler has stopped, however long that takes, or
                    // taken by others once the lease has run out.
                    return task.shutdown().await;
                };
                self.ending(stop, &facts)
            }
        };
        if completed.load(Ordering::Acquire) {
            // Its row says done; whatever the handler did afterwards changes nothing.
            tracing::debug!("done");
            self.shared.counts.done.add(1);
            return;
        }
        self.settle(facts, ending).await;
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

    fn ending(&self, stop: Stop, facts: &Facts) -> Ending {
        let outcome = match stop {
            Stop::Ended(Ok(outcome)) => outcome,
            Stop::Ended(Err(error)) => Outcome::Retry(panicked(error).into()),
            Stop::Aborted => return Ending::HandBack,
        };
        match outcome {
            Outcome::Done => Ending::Done { result: None },
            Outcome::DoneWith(value) => Ending::Done {
                result: Some(value.to_string()),
            },
            Outcome::Retry(error) => {
                let error = Chain(&*error).to_string();
                if facts.attempt >= facts.max_attempts {
                    return Ending::Dead { reason: error };
                }
                let after = (self.shared.backoff).wait(facts.attempt, (self.shared.random)());
                Ending::Retry { after, error }
            }
            Outcome::Dead(reason) => Ending::Dead { reason },
            Outcome::Snooze(after) => Ending::Snooze { after },
        }
    }

    async fn settle(mut self, facts: Facts, ending: Ending) {
        match &ending {
            Ending::Done { .. } => tracing::debug!("done"),
            Ending::Retry { after, error } => tracing::warn!(error, ?after, "failed; will retry"),
            Ending::Dead { reason } => tracing::error!(reason, "dead"),
            Ending::Snooze { after } => tracing::debug!(?after, "snoozed"),
            Ending::HandBack => tracing::info!("handed back"),
        }
        let (told, answer) = oneshot::channel();
        let counts = &self.shared.counts;
        let counter = counts.of(&ending);
        let settlement = Settlement {
            lease: facts.lease,
            ending,
            told,
        };
        let Ok(place) = self.settle.reserve().await else {
            return;
        };
        // Others may run while this end is stored: no more of them than places here.
        drop(self.slot.take());
        place.send(settlement);
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

/// Waits for the handler's end, or for its abort; `None` if it cannot be aborted.
async fn stopped(task: &mut JoinSet<Outcome>, phase: &mut watch::Receiver<Phase>) -> Option<Stop> {
    let aborting = async {
        reached(phase, Phase::Aborting).await;
        None
    };
    if let Some(ended) = race(async { Some(next(task).await) }, aborting).await {
        return Some(Stop::Ended(ended));
    }
    task.abort_all();
    match timeout(UNWIND, next(task)).await {
        Ok(Err(error)) if error.is_cancelled() => Some(Stop::Aborted),
        // It came to its end at the last moment.
        Ok(ended) => Some(Stop::Ended(ended)),
        // It still runs, so it is not for others yet.
        Err(_) => None,
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
