//! What a run's outcome means for its job. It knows no clock and no database.

use std::collections::HashMap;
use std::time::Duration;

use maxscale_core::Chain;
use maxscale_core::control::Backoff;
use maxscale_core::refusal::Class;

use crate::failure::Failure;
use crate::job::Outcome;
use crate::queue::Queue;
use crate::store::{Ending, Facts};

/// How long jobs that failed wait for their next attempt.
#[derive(Clone, Debug)]
pub(super) struct Waits {
    pub(super) plain: Backoff,
    pub(super) by_class: HashMap<Class, Backoff>,
}

/// The end that `outcome` is; `random` is a draw between 0 and 1.
pub(super) fn ending(outcome: Outcome, facts: &Facts, waits: &Waits, random: f64) -> Ending {
    match outcome {
        Outcome::Done => Ending::Done { result: None },
        Outcome::DoneWith(value) => Ending::Done {
            result: kept(value.to_string()),
        },
        Outcome::Retry(failure) => retried(&failure, facts, waits, random),
        Outcome::Dead(reason) => Ending::Dead { reason },
        Outcome::Cancel(reason) => Ending::Cancelled { reason },
        Outcome::Snooze(after) => Ending::Snooze { after },
        Outcome::Continue(state) => {
            let checkpoint = state.to_string();
            let size = checkpoint.len();
            if size <= Queue::MAX_ARGS {
                return Ending::Continue { checkpoint };
            }
            let failure = Failure::from(format!("a checkpoint of {size} bytes is too large"));
            retried(&failure.class(Class::TooLarge), facts, waits, random)
        }
    }
}

fn retried(failure: &Failure, facts: &Facts, waits: &Waits, random: f64) -> Ending {
    let error = Chain(&*failure.error).to_string();
    if facts.attempt >= facts.max_attempts {
        return Ending::Dead { reason: error };
    }
    let after = failure.after;
    let after = after.unwrap_or_else(|| waits.after(failure.class, facts.attempt, random));
    Ending::Retry { after, error }
}

/// The work is done: that its result cannot be kept does not undo it.
fn kept(result: String) -> Option<String> {
    if result.len() > Queue::MAX_ARGS {
        tracing::warn!(
            size = result.len(),
            "a result is too large and was not kept"
        );
        return None;
    }
    Some(result)
}

// === impl Waits ===

impl Waits {
    fn after(&self, class: Option<Class>, attempt: u32, random: f64) -> Duration {
        let special = class.and_then(|class| self.by_class.get(&class));
        special.unwrap_or(&self.plain).wait(attempt, random)
    }
}

#[cfg(test)]
mod tests {
    use maxscale_core::fact::VirtualShard;
    use serde_json::json;
    use uuid::Uuid;

    use super::*;
    use crate::store::Lease;

    fn end(outcome: Outcome, attempt: u32) -> Ending {
        let facts = Facts {
            lease: Lease {
                shard: VirtualShard::new(1),
                job: "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap(),
                worker: Uuid::nil(),
                token: 1,
            },
            version: 1,
            attempt,
            max_attempts: 3,
            crashes: 0,
            timeout: None,
            checkpoint: None,
            trace: None,
        };
        let seconds = |s| Backoff::new(Duration::from_secs(s), Duration::from_secs(s));
        let waits = Waits {
            plain: seconds(2),
            by_class: HashMap::from([(Class::Limited, seconds(60))]),
        };
        ending(outcome, &facts, &waits, 1.0)
    }

    fn waits(failure: Failure) -> Duration {
        match end(Outcome::Retry(failure), 2) {
            Ending::Retry { after, .. } => after,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn wait_is_that_of_the_class_or_what_the_failure_says() {
        assert_eq!(waits("x".into()), Duration::from_secs(2));
        let limited = || Failure::from("x").class(Class::Limited);
        assert_eq!(waits(limited()), Duration::from_secs(60));
        let unknown = Failure::from("x").class(Class::Timeout);
        assert_eq!(waits(unknown), Duration::from_secs(2));
        let told = limited().after(Duration::from_secs(7));
        assert_eq!(waits(told), Duration::from_secs(7));
    }

    #[test]
    fn last_attempt_is_the_last_whatever_the_failure_says() {
        let told = Failure::from("x").after(Duration::from_secs(7));
        let ended = end(Outcome::Retry(told), 3);
        assert!(matches!(ended, Ending::Dead { .. }), "{ended:?}");
    }

    #[test]
    fn what_is_too_large_is_not_stored() {
        let large = json!("x".repeat(Queue::MAX_ARGS));
        let ended = end(Outcome::DoneWith(large.clone()), 1);
        assert!(matches!(ended, Ending::Done { result: None }));
        let ended = end(Outcome::Continue(large), 1);
        assert!(matches!(ended, Ending::Retry { .. }));
    }
}
