//! The crate against SQLite files and a real PostgreSQL.
//!
//! A claim that holds on both engines is one function, run by [`on_both!`] on each.

#![cfg(all(feature = "postgres", feature = "sqlite"))]
#![expect(clippy::unwrap_used, reason = "these are tests, their helpers too")]

#[macro_use]
mod support;

mod claims;
mod closures;
mod degraded;
mod dropped;
mod fleet;
mod hanging;
mod keyspace;
mod lost_commits;
mod migrations;
mod pool;
mod routing;
mod sqlite;
mod standby;
#[cfg(feature = "tls")]
mod tls;
mod transactions;
mod urls;
mod values;
mod vindex;
