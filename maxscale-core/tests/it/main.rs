//! Core against real servers.

#![cfg(feature = "redis")]
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests, which clippy does not see as such"
)]

#[cfg(feature = "limit")]
mod limit;
mod redis;
