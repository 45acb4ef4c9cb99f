use std::sync::atomic::Ordering;

use super::Endpoints;
use crate::control::End;
use crate::resilience::Outcome;

/// A call of an endpoint that is under way. Dropped, it says nothing of it.
#[derive(Debug)]
#[must_use = "what is dropped says nothing of the call"]
pub struct EndpointCall {
    endpoints: Endpoints,
    at: usize,
}

// === impl EndpointCall ===

impl EndpointCall {
    pub(super) fn begin(endpoints: &Endpoints, at: usize) -> Self {
        if let Some(active) = endpoints.0.active.get(at) {
            active.fetch_add(1, Ordering::Relaxed);
        }
        Self {
            endpoints: endpoints.clone(),
            at,
        }
    }

    /// The endpoint's place in the set.
    pub const fn at(&self) -> usize {
        self.at
    }

    /// Tells how the call ended.
    pub fn end(self, outcome: Outcome) {
        let end = End::from(outcome);
        self.endpoints.0.ended(self.at, end);
    }
}

impl Drop for EndpointCall {
    fn drop(&mut self) {
        if let Some(active) = self.endpoints.0.active.get(self.at) {
            active.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

// === impl Endpoints ===

impl Endpoints {
    /// Picks an endpoint for a call, for callers without tower.
    pub fn call(&self) -> EndpointCall {
        // At least one is usable, whatever has failed.
        EndpointCall::begin(self, self.pick(self.next_turn(), 0).unwrap_or(0))
    }
}
