//! The queue on real databases: every claim is checked on SQLite and on PostgreSQL.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests, which clippy does not see as such"
)]

mod bad;
mod bell;
mod blocked;
mod counts;
mod crash;
mod dead;
mod drained;
mod ends;
mod enqueue;
mod faults;
mod layer;
mod long;
mod many;
mod parts;
mod paused;
mod places;
mod program;
mod sealed;
mod stage;
mod stopped;
mod suite;
mod tagged;
mod traced;
mod unique;
