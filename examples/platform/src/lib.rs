//! A service for creators, assembled from the maxscale crates.
//!
//! ```text
//!  http::Request ─ trace ─ deadline ─ limit ─ session ─ limit ─ handler ─ cache ─ shard
//!  upload ─ object on disk ─ row and job in one transaction ─ worker ─ measured
//! ```

mod accounts;
pub mod assembly;
pub mod audio;
mod audit;
pub mod banner;
mod bounds;
pub mod capacity;
mod checks;
mod databases;
pub mod expired;
pub mod folder;
pub mod forget;
mod ground;
pub mod http;
pub mod keyring;
mod layers;
pub mod limiting;
pub mod mail;
pub mod measure;
pub mod newest;
pub mod objects;
pub mod operate;
pub mod otel;
pub mod profile;
pub mod project;
pub mod public_url;
mod reads;
mod redis;
pub mod schema;
pub mod serve;
mod sessions;
pub mod settings;
pub mod start;
pub mod sweep;
pub mod track;

/// The README's example, which must compile as it is printed.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
