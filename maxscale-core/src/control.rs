//! Pure arithmetic of failure: when to try again, when not to try at all, and
//! how long anybody waits.
//!
//! Each core is a value. What happened, and when, makes a decision and the next
//! value of it: `(state, now, event) → (decision, state)`. Nothing here sleeps,
//! locks, draws or reads a clock; whoever does holds the value.
//!
//! | core | events | decisions |
//! | --- | --- | --- |
//! | [`Breaker`] | a call is wanted, succeeded, failed | go, probe, stop; opens, closes |
//! | [`Retries`] | an attempt failed, succeeded | wait, give up, done |
//! | [`TimeLimit`] | a request came, with what it asks for | run, late; until when |

mod backoff;
mod breaker;
mod deadline;

pub use backoff::{Attempt, Backoff, Retries, Retry};
pub use breaker::{Breaker, BreakerConfig, Event, Permit, Verdict};
pub use deadline::{Admission, TimeLimit};
