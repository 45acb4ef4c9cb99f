//! The harness' own tests.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests, which clippy does not see as such"
)]

mod left_behind;
mod memcached;
mod pooler;
mod postgres;
mod process;
mod proxy;
mod redis;
mod redis_groups;
mod replica;
mod source;
mod tls;
