//! Accounts and sessions on SQLite files and a real PostgreSQL, two nodes each.

#![expect(clippy::unwrap_used, reason = "these are tests, their helpers too")]

#[macro_use]
mod support;

mod accounts;
mod activity;
mod counting;
mod failing;
mod grpc;
mod guards;
mod copies;
mod gated;
mod flood;
mod heals;
mod near;
mod overrides;
mod redis_sessions;
mod revoked;
mod letters;
mod mail;
mod races;
mod sessions;
mod stores;
mod passwords;
mod rank;
#[cfg(feature = "bcrypt")]
mod timing;
