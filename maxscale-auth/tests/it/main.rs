//! Accounts and sessions on SQLite files and a real PostgreSQL, two nodes each.

#![expect(clippy::unwrap_used, reason = "these are tests, their helpers too")]

#[macro_use]
mod support;

mod accounts;
mod failing;
mod flood;
mod heals;
mod overrides;
mod passwords;
mod rank;
mod sessions;
#[cfg(feature = "bcrypt")]
mod timing;
