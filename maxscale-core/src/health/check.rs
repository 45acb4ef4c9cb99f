//! One check: the task that runs it, and its last result.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};

use super::state::{State, Status};
use super::{CheckReport, Importance, Pace};
use crate::clock::{Clock, Timestamp};
use crate::{BoxError, Chain};

/// A check that runs until its owner drops it.
#[derive(Debug)]
pub(super) struct Check {
    record: Arc<Record>,
    task: AbortHandle,
}

#[derive(Debug)]
struct Record {
    name: Arc<str>,
    importance: Importance,
    clock: Clock,
    last: Mutex<Last>,
}

#[derive(Debug)]
struct Last {
    state: State,
    since: Timestamp,
    error: Option<String>,
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
    pub(super) fn start<C, F>(
        name: Arc<str>,
        importance: Importance,
        clock: Clock,
        pace: Pace,
        check: C,
    ) -> Self
    where
        C: Fn() -> F + Send + Sync + 'static,
        F: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        let record = Arc::new(Record {
            name,
            importance,
            last: Mutex::new(Last {
                state: State::new(),
                since: clock.now(),
                error: None,
            }),
            clock,
        });
        let task = tokio::spawn(run(record.clone(), pace, check)).abort_handle();
        Self { record, task }
    }

    pub(super) fn stop(&self) {
        self.task.abort();
    }

    pub(super) fn report(&self) -> CheckReport {
        let last = self.record.last();
        CheckReport {
            name: self.record.name.clone(),
            importance: self.record.importance,
            status: last.state.status(),
            since: last.since,
            error: last.error.clone(),
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
        sleep(pace.interval).await;
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
        let (changed, status) = {
            let mut last = self.last();
            let changed = last.state.apply(result.is_ok());
            if changed {
                last.since = self.clock.now();
            }
            last.error = result.as_ref().err().map(shown);
            (changed, last.state.status())
        };
        match result {
            Err(error) if changed => {
                tracing::warn!(check = &*self.name, error = %Chain(error), "health check is down");
            }
            Err(error) if status == Status::Up => {
                tracing::debug!(check = &*self.name, error = %Chain(error), "health check failed");
            }
            Ok(()) if changed => tracing::info!(check = &*self.name, "health check is up"),
            _ => {}
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
