//! The ground that every maxscale crate stands on.
//!
//! It knows the words that layers hand on ([`fact`]), time ([`clock`]), names
//! of things ([`id`]), how a request is refused ([`refusal`]) and the pure
//! arithmetic of retries and breakers ([`control`]). It opens no SQL database
//! and reads no cookie; `redis` is the one handle to Redis.

#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "capacity")]
pub mod capacity;
pub mod clock;
#[cfg(feature = "config")]
pub mod config;
pub mod control;
pub mod fact;
#[cfg(feature = "health")]
pub mod health;
pub mod id;
#[cfg(feature = "keys")]
pub mod keys;
#[cfg(feature = "limit")]
pub mod limit;
pub mod meter;
#[cfg(feature = "redis")]
pub mod redis;
pub mod refusal;
pub mod resilience;
#[cfg(feature = "serve")]
pub mod serve;
pub mod stack;
pub mod stripes;
#[cfg(feature = "telemetry")]
pub mod telemetry;

mod chain;
mod draw;

pub use chain::{BoxError, Chain};
