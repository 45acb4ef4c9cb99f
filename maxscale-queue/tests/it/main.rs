//! The queue on real databases: every claim is checked on SQLite and on PostgreSQL.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests, which clippy does not see as such"
)]

mod blocked;
mod counts;
mod crash;
mod ends;
mod enqueue;
mod faults;
mod layer;
mod many;
mod parts;
mod places;
mod program;
mod stage;
mod stopped;
mod traced;
mod unique;
