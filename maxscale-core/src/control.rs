//! Pure arithmetic of failure: when to try again, and when not to try at all.
//!
//! Nothing here sleeps, locks or reads a clock.

mod backoff;
mod breaker;

pub use backoff::Backoff;
pub use breaker::{Breaker, BreakerConfig, Permit};
