//! One check: the task that runs it, and its last result.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout};

use super::hook::{Change, Hooks};
use super::state::{State, Status};
use super::{CheckReport, Importance, Pace, Place};
use crate::clock::{Clock, Timestamp};
use crate::{BoxError, Chain};

/// A check that runs until its owner drops it.
#[derive(Debug)]
pub(super) struct Check {
    record: Arc<Record>,
    task: AbortHandle,
}

/// What is checked, and who hears of it.
#[derive(Debug)]
pub(super) struct Subject {
    pub(super) place: Place,
    pub(super) name: Arc<str>,
    pub(super) importance: Importance,
    pub(super) clock: Clock,
    pub(super) hooks: Arc<Hooks>,
}

#[derive(Debug)]
struct Record {
    subject: Subject,
    stale: Duration,
    last: Mutex<Last>,
}

#[derive(Debug)]
struct Last {
    state: State,
    since: Timestamp,
    error: Option<String>,
    /// When the last run ended; `None` before the first.
    checked: Option<Timestamp>,
    /// When a result is too old to be believed; `None` before the first.
    due: Option<Instant>,
    passed: bool,
    stopped: bool,
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("no answer in time")]
    Hung,
    #[error("the check panicked")]
    Panicked,
    #[error(transparent)]
    Failed(BoxError),
}

/// Longer texts of errors are cut.
const MAX_ERROR_CHARS: usize = 300;

// === impl Check ===

impl Check {
    pub(super) fn start<C, F>(subject: Subject, pace: Pace, check: C) -> Self
    where
        C: Fn() -> F + Send + Sync + 'static,
        F: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        let record = Arc::new(Record {
            stale: pace.stale(),
            last: Mutex::new(Last {
                state: State::new(),
                since: subject.clock.now(),
                error: None,
                checked: None,
                due: None,
                passed: false,
                stopped: false,
            }),
            subject,
        });
        let task = tokio::spawn(run(record.clone(), pace, check)).abort_handle();
        Self { record, task }
    }

    pub(super) fn stop(&self) {
        self.task.abort();
        self.record.last().stopped = true;
    }

    /// Ends the task, and lets nobody know.
    #[cfg(test)]
    pub(super) fn lose(&self) {
        self.task.abort();
    }

    /// Whether it passed once, or need not.
    pub(super) fn has_started(&self) -> bool {
        self.record.subject.importance != Importance::Critical || self.record.last().passed
    }

    pub(super) fn report(&self) -> CheckReport {
        let (last, subject) = (self.record.last(), &self.record.subject);
        // Its thread may be blocked with the task that would tell.
        let lost = !last.stopped && last.due.is_some_and(|due| Instant::now() > due);
        let error = if lost {
            Some(shown(&Failure::Hung))
        } else {
            last.error.clone()
        };
        CheckReport {
            place: subject.place,
            name: subject.name.clone(),
            importance: subject.importance,
            status: if lost {
                Status::Down
            } else {
                last.state.status()
            },
            since: last.since,
            checked: last.checked,
            error,
        }
    }
}

impl Drop for Check {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn run<C, F>(record: Arc<Record>, pace: Pace, check: C)
where
    C: Fn() -> F + Send + Sync + 'static,
    F: Future<Output = Result<(), BoxError>> + Send + 'static,
{
    let check = Arc::new(check);
    let mut runs = JoinSet::new();
    loop {
        while runs.try_join_next().is_some() {}
        // A run that blocks its thread outlives its abort: never start another beside it.
        if runs.is_empty() {
            let check = check.clone();
            runs.spawn(async move { check().await });
        }
        record.apply(&once(&mut runs, pace.timeout).await);
        sleep(pace.pause()).await;
    }
}

/// Waits for the run; a task of its own, so that its panic ends only itself.
async fn once(runs: &mut JoinSet<Result<(), BoxError>>, limit: Duration) -> Result<(), Failure> {
    match timeout(limit, runs.join_next()).await {
        Ok(Some(Ok(result))) => result.map_err(Failure::Failed),
        Ok(Some(Err(ended))) if ended.is_panic() => Err(Failure::Panicked),
        Ok(_) => Err(Failure::Hung),
        Err(_) => {
            runs.abort_all();
            Err(Failure::Hung)
        }
    }
}

// === impl Record ===

impl Record {
    fn apply(&self, result: &Result<(), Failure>) {
        let Subject {
            name, clock, hooks, ..
        } = &self.subject;
        let (before, status) = {
            let mut last = self.last();
            let before = last.state.status();
            let now = clock.now();
            if last.state.apply(result.is_ok()) {
                last.since = now;
            }
            last.checked = Some(now);
            last.due = Some(Instant::now() + self.stale);
            last.passed |= result.is_ok();
            last.error = result.as_ref().err().map(shown);
            (before, last.state.status())
        };
        let changed = before != status;
        match result {
            Err(error) if changed => {
                tracing::warn!(check = &**name, error = %Chain(error), "health check is down");
            }
            Err(error) if status == Status::Up => {
                tracing::debug!(check = &**name, error = %Chain(error), "health check failed");
            }
            Ok(()) if changed => tracing::info!(check = &**name, "health check is up"),
            _ => {}
        }
        if changed {
            hooks.tell(&Change {
                name: name.clone(),
                from: before,
                to: status,
            });
        }
    }

    fn last(&self) -> MutexGuard<'_, Last> {
        // Results are written field by field, and nothing between them panics.
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// The causes stay in the log: drivers put addresses and statements into them.
fn shown(failure: &Failure) -> String {
    failure.to_string().chars().take(MAX_ERROR_CHARS).collect()
}
