//! Accounts and sessions on SQLite files and a real PostgreSQL, two nodes each.

#![expect(clippy::unwrap_used, reason = "these are tests, their helpers too")]

#[macro_use]
mod support;

mod accounts;
mod at_rest;
mod copies;
mod failing;
mod gated;
mod heals;
mod overrides;
mod redis_sessions;
mod revoked;
mod sessions;
mod stores;
