//! What [`Limits`] knows beside counts: whom an operator has given another rule, and
//! who is denied often.

use std::fmt;
use std::sync::Arc;

use super::denied::DeniedCounts;
use super::marks::Marks;
#[cfg(feature = "redis")]
use super::marks::SharedMarks;
use super::{Limits, Rule};
#[cfg(feature = "redis")]
use super::{RedisLimits, overrides};
use crate::clock::Clock;

pub(super) struct Oversight {
    overrides: Arc<Marks<Rule>>,
    #[cfg(feature = "redis")]
    shared: Option<SharedMarks<Rule>>,
    denied: DeniedCounts,
}

// === impl Oversight ===

impl Oversight {
    pub(super) fn new(clock: Clock) -> Self {
        Self {
            overrides: Arc::new(Marks::new(clock)),
            #[cfg(feature = "redis")]
            shared: None,
            denied: DeniedCounts::new(),
        }
    }

    /// Has the overrides of all processes.
    #[cfg(feature = "redis")]
    pub(super) fn shared(mut self, redis: &RedisLimits) -> Self {
        let (redis, marks) = (redis.clone(), self.overrides.clone());
        let shared = SharedMarks::follow(redis, marks, overrides::KIND, overrides::read);
        self.shared = Some(shared);
        self
    }
}

impl fmt::Debug for Oversight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Oversight").finish_non_exhaustive()
    }
}

// === impl Limits ===

impl Limits {
    pub(super) fn overrides(&self) -> &Marks<Rule> {
        &self.0.oversight.overrides
    }

    #[cfg(feature = "redis")]
    pub(super) fn shared_overrides(&self) -> Option<&SharedMarks<Rule>> {
        self.0.oversight.shared.as_ref()
    }

    pub(super) fn denied(&self) -> &DeniedCounts {
        &self.0.oversight.denied
    }
}
