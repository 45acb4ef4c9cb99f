//! The job that drops cached values, carried by the transaction that changed them.
//!
//! Whoever changes something drops it from the cache after the commit. A process that
//! dies in between cannot; a worker of any process does, from what lies beside the
//! change.

use std::time::Duration;

use maxscale_cache::{Hub, Invalidated};
use maxscale_core::Chain;
use maxscale_core::fact::Invalidation;
use maxscale_queue::{Handler, Job, JobRequest, Outcome};
use serde::{Deserialize, Serialize};

/// Drops values from the cache.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Forget {
    /// Each by its type and its id there.
    values: Vec<(String, String)>,
}

/// Runs [`Forget`] jobs.
#[derive(Clone, Debug)]
pub struct Forgetter {
    /// Where the values are.
    pub hub: Hub,
}

/// Within which the far cache may be back.
const AGAIN: Duration = Duration::from_secs(1);

// === impl Forget ===

impl Forget {
    /// The job that drops these.
    pub fn new(values: impl IntoIterator<Item = Invalidation>) -> Self {
        let named = |it: Invalidation| ((*it.kind).to_owned(), (*it.id).to_owned());
        Self {
            values: values.into_iter().map(named).collect(),
        }
    }
}

impl Job for Forget {
    const KIND: &'static str = "cache.forget";
}

// === impl Forgetter ===

impl Handler<Forget> for Forgetter {
    async fn run(&self, job: JobRequest<Forget>) -> Outcome {
        let mut outcome = Outcome::Done;
        for (kind, id) in &job.job().values {
            let value = Invalidation {
                kind: kind.as_str().into(),
                id: id.as_str().into(),
            };
            match self.hub.apply(&value).await {
                Ok(Invalidated::Everywhere) => {}
                // Not lost with this process, as what the hub keeps would be.
                Ok(Invalidated::HereOnly) => outcome = Outcome::Snooze(AGAIN),
                Err(error) => return Outcome::Dead(Chain(&error).to_string()),
            }
        }
        outcome
    }
}
