//! One resource: the task that reads it, and what it read last.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::broadcast;
use tokio::task::{AbortHandle, spawn_blocking};
use tokio::time::sleep;

use super::level::{State, Thresholds};
use super::trend::Trend;
use super::{Change, Level, Reading};
use crate::clock::Clock;

/// A resource that is read until its owner drops it.
#[derive(Debug)]
pub(super) struct Resource {
    record: Arc<Record>,
    task: AbortHandle,
}

#[derive(Debug)]
struct Record {
    name: Arc<str>,
    clock: Clock,
    thresholds: Thresholds,
    changes: broadcast::Sender<Change>,
    last: Mutex<Last>,
}

#[derive(Debug)]
struct Last {
    state: State,
    trend: Trend,
    ratio: Option<f64>,
    exhausted_in: Option<Duration>,
}

// === impl Resource ===

impl Resource {
    pub(super) fn start(
        name: Arc<str>,
        clock: Clock,
        thresholds: Thresholds,
        interval: Duration,
        changes: broadcast::Sender<Change>,
        read: impl Fn() -> Option<(f64, f64)> + Send + Sync + 'static,
    ) -> Self {
        let record = Arc::new(Record {
            name,
            clock,
            thresholds,
            changes,
            last: Mutex::new(Last {
                state: State::new(),
                trend: Trend::default(),
                ratio: None,
                exhausted_in: None,
            }),
        });
        let task = tokio::spawn(run(record.clone(), interval, Arc::new(read))).abort_handle();
        Self { record, task }
    }

    pub(super) fn reading(&self) -> Reading {
        let last = self.record.last();
        Reading {
            name: self.record.name.clone(),
            level: last.state.level(),
            ratio: last.ratio,
            exhausted_in: last.exhausted_in,
        }
    }
}

impl Drop for Resource {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(
    record: Arc<Record>,
    interval: Duration,
    read: Arc<impl Fn() -> Option<(f64, f64)> + Send + Sync + 'static>,
) {
    loop {
        let read = read.clone();
        match spawn_blocking(move || read()).await {
            Ok(Some((used, limit))) => record.apply(used, limit),
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(resource = &*record.name, %error, "cannot read a capacity");
            }
        }
        sleep(interval).await;
    }
}

// === impl Record ===

impl Record {
    fn apply(&self, used: f64, limit: f64) {
        let ratio = used / limit;
        // Written so that what is no number is left out, too.
        if !(limit > 0.0 && ratio.is_finite()) {
            return;
        }
        let (from, to, exhausted_in) = {
            let mut last = self.last();
            let from = last.state.level();
            last.state.apply(ratio, self.thresholds);
            last.trend.add(self.clock.now(), used);
            last.ratio = Some(ratio);
            last.exhausted_in = last.trend.exhausted_in(limit);
            (from, last.state.level(), last.exhausted_in)
        };
        if from != to {
            self.tell(Change {
                name: self.name.clone(),
                from,
                to,
                ratio,
                exhausted_in,
            });
        }
    }

    fn tell(&self, change: Change) {
        match change.to {
            Level::Normal => tracing::info!(level = "normal", "{change}"),
            Level::Warning => tracing::warn!(level = "warning", "{change}"),
            Level::Critical => tracing::error!(level = "critical", "{change}"),
        }
        // Nobody listens: the log has it.
        let _ = self.changes.send(change);
    }

    fn last(&self) -> MutexGuard<'_, Last> {
        // Fields are set one by one, and nothing between them panics.
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
