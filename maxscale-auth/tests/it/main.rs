//! Accounts and sessions on SQLite files and a real PostgreSQL, two nodes each.

#![expect(clippy::unwrap_used, reason = "these are tests, their helpers too")]

#[macro_use]
mod support;

mod access;
mod accounts;
mod activity;
mod addresses;
mod api_keys;
mod at_rest;
mod audited;
#[cfg(feature = "openapi")]
mod browser;
mod copies;
mod counting;
#[cfg(feature = "openapi")]
mod csrf;
mod failing;
mod forged;
mod gated;
mod grpc;
mod guarded;
mod guards;
mod half_told;
mod heals;
mod joined;
mod killed;
mod letters;
mod mail;
#[cfg(feature = "smtp")]
mod mailers;
mod near;
mod overrides;
mod passwords;
mod quiet;
mod races;
mod rank;
mod recalled;
mod redis_sessions;
mod refresh;
mod revoked;
#[cfg(feature = "openapi")]
mod routes;
mod secrets;
mod sessions;
mod signing_keys;
mod stores;
mod strangers;
#[cfg(feature = "bcrypt")]
mod timing;
mod unverified;
