//! The queue on real databases: every claim is checked on SQLite and on PostgreSQL.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests, which clippy does not see as such"
)]

mod counts;
mod crash;
mod ends;
mod enqueue;
mod layer;
mod long;
mod many;
mod places;
mod stage;
mod traced;
mod unique;
