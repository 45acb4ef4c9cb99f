//! Core as its users see it, and against real servers.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests, which clippy does not see as such"
)]
#![cfg_attr(
    feature = "redis",
    expect(clippy::print_stdout, reason = "what was measured is worth a line")
)]

#[cfg(all(feature = "health", feature = "telemetry"))]
mod health;
mod id;
#[cfg(feature = "seal")]
mod keys;
#[cfg(all(feature = "limit", feature = "redis", feature = "telemetry"))]
mod limit;
#[cfg(all(feature = "limit", feature = "redis"))]
mod operators;
#[cfg(all(feature = "axum", feature = "redis"))]
mod ready;
#[cfg(feature = "redis")]
mod redis;
mod resilience;
#[cfg(all(feature = "serve", feature = "axum"))]
mod serve;
#[cfg(all(feature = "limit", feature = "telemetry"))]
mod stack;
#[cfg(all(feature = "axum", feature = "limit"))]
mod strangers;
