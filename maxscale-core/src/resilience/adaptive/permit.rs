use std::fmt;

use super::AdaptiveLimit;
use super::windows::{Says, Ticket};
use crate::resilience::Outcome;
use crate::resilience::judged::Held;

/// A call that an [`AdaptiveLimit`] has let through; see [`AdaptiveLimit::enter`].
#[must_use = "dropping it frees the place"]
pub struct AdaptivePermit {
    limit: AdaptiveLimit,
    /// None once it has ended.
    ticket: Option<Ticket>,
}

// === impl AdaptivePermit ===

impl AdaptivePermit {
    pub(super) const fn new(limit: AdaptiveLimit, ticket: Ticket) -> Self {
        Self {
            limit,
            ticket: Some(ticket),
        }
    }

    /// Tells how the call ended, and frees its place.
    pub fn end(mut self, outcome: Outcome) {
        self.leave(outcome);
    }

    fn leave(&mut self, outcome: Outcome) {
        let says = match outcome {
            Outcome::Succeeded => Says::Time,
            Outcome::TimedOut | Outcome::SentBack => Says::Dropped,
            Outcome::GivenUp => Says::AtLeast,
            Outcome::Failed => Says::Nothing,
        };
        if let Some(ticket) = self.ticket.take() {
            let shared = &*self.limit.0;
            shared.windows.leave(ticket, shared.now(), says);
        }
    }
}

impl Held for AdaptivePermit {
    fn end(self, outcome: Outcome) {
        self.end(outcome);
    }
}

impl Drop for AdaptivePermit {
    fn drop(&mut self) {
        self.leave(Outcome::GivenUp);
    }
}

impl fmt::Debug for AdaptivePermit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdaptivePermit")
            .field("limit", &self.limit.name())
            .finish_non_exhaustive()
    }
}
