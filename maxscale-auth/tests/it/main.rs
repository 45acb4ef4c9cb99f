//! Accounts and sessions on SQLite files and a real PostgreSQL, two nodes each.

#![expect(clippy::unwrap_used, reason = "these are tests, their helpers too")]

#[macro_use]
mod support;

mod accounts;
mod addresses;
mod failing;
mod guarded;
mod heals;
mod killed;
mod letters;
mod mail;
mod overrides;
mod races;
mod secrets;
mod sessions;
