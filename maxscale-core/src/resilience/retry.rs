//! Calls that failed are made again, as long as that does more good than harm.
//!
//! [`RetryLayer`] makes a request again that may be ([`Replay`]), after a wait of
//! which any part is drawn, within the request's deadline, and within a
//! [`RetryBudget`] that all requests to one upstream share: while all goes well
//! retries are free, and an upstream that is down sees hardly more requests than
//! were made. Of several such layers around one another the outermost retries.

mod budget;
mod builder;
mod layer;
mod replay;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::Instant;

pub use budget::RetryBudget;
pub use builder::RetryBuilder;
pub use layer::{RetryFuture, RetryLayer, Retrying};
pub use replay::{Idempotent, MayRepeat, Replay, RetryAttempt};

use super::{Circuit, Outcome};
use crate::control::{Again, Declined, FailedCall, Phase, Pushback, Spending};
use crate::draw::Draw;
use crate::fact::Deadline;
use crate::meter::{HotCounter, Meter, Metric};

/// Calls that failed, by what followed: `retried`, `would_retry` in a dry run, or
/// why they were not made again: `attempts`, `pushback`, `deadline`, `circuit`, `budget`.
pub const RETRY_DECISIONS: Metric = Metric::new(
    "maxscale.retry.decisions",
    "{call}",
    "Calls that failed and may be made again, by what followed.",
);

/// When calls to one upstream are made again. Clones share it.
#[derive(Clone, Debug)]
pub struct Retry(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    again: Again,
    budget: RetryBudget,
    circuit: Option<Circuit>,
    dry_run: AtomicBool,
    random: Draw,
    counts: Counts,
}

#[derive(Debug)]
struct Counts {
    retried: HotCounter,
    would_retry: HotCounter,
    attempts: HotCounter,
    pushback: HotCounter,
    deadline: HotCounter,
    circuit: HotCounter,
    budget: HotCounter,
}

// === impl Retry ===

impl Retry {
    /// The tokens that its retries are taken from.
    pub fn budget(&self) -> &RetryBudget {
        &self.0.budget
    }

    /// Whether it only counts what it would make again.
    pub fn set_dry_run(&self, dry_run: bool) {
        self.0.dry_run.store(dry_run, Ordering::Relaxed);
    }

    /// How long to wait before a call is made again that was made `made` times
    /// and ended so; `None` if it is not to be made again. For callers without tower.
    pub fn after(
        &self,
        outcome: Outcome,
        made: u32,
        pushback: Option<Pushback>,
        deadline: Option<Deadline>,
    ) -> Option<Duration> {
        let spending = match (outcome, pushback) {
            (Outcome::Succeeded, _) => {
                self.0.budget.on(Spending::Success);
                return None;
            }
            // Nobody waits for it, or nothing says when it would be welcome.
            (Outcome::GivenUp, _) | (Outcome::SentBack, None) => return None,
            (Outcome::TimedOut, _) => Spending::RetryOfTimeout,
            (Outcome::Failed | Outcome::SentBack, _) => Spending::Retry,
        };
        let now = Instant::now();
        let left = |deadline: Deadline| deadline.left(now).unwrap_or_default();
        self.0.decide(
            spending,
            FailedCall {
                made,
                pushback,
                left: deadline.map(left),
                random: self.0.random.draw(),
            },
        )
    }
}

// === impl Shared ===

impl Shared {
    fn decide(&self, spending: Spending, call: FailedCall) -> Option<Duration> {
        let counts = &self.counts;
        let wait = match self.again.wait(call) {
            Ok(wait) => wait,
            Err(declined) => {
                match declined {
                    Declined::Attempts => counts.attempts.add(1),
                    Declined::Pushback => counts.pushback.add(1),
                    Declined::Deadline => counts.deadline.add(1),
                }
                return None;
            }
        };
        let open = |circuit: &Circuit| circuit.phase() == Phase::Open;
        if self.circuit.as_ref().is_some_and(open) {
            counts.circuit.add(1);
            return None;
        }
        if self.dry_run.load(Ordering::Relaxed) {
            counts.would_retry.add(1);
            return None;
        }
        if !self.budget.on(spending) {
            counts.budget.add(1);
            return None;
        }
        counts.retried.add(1);
        Some(wait)
    }
}

// === impl Counts ===

impl Counts {
    fn new(meter: &Meter, name: &str) -> Self {
        let count = |outcome| {
            HotCounter::register(
                meter,
                RETRY_DECISIONS,
                &[("retry", name), ("outcome", outcome)],
            )
        };
        Self {
            retried: count("retried"),
            would_retry: count("would_retry"),
            attempts: count("attempts"),
            pushback: count("pushback"),
            deadline: count("deadline"),
            circuit: count("circuit"),
            budget: count("budget"),
        }
    }
}

#[cfg(test)]
mod tests;
