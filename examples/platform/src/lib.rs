//! A service for creators, assembled from the maxscale crates.
//!
//! ```text
//!  http::Request ─ trace ─ deadline ─ session ─ limit ─ handler ─ cache ─ shard
//!  upload ─ object on disk ─ row and job in one transaction ─ worker ─ measured
//! ```

pub mod assembly;
pub mod audio;
pub mod banner;
pub mod capacity;
mod checks;
pub mod folder;
pub mod forget;
pub mod http;
pub mod keyring;
pub mod limiting;
pub mod measure;
pub mod newest;
pub mod objects;
pub mod otel;
pub mod profile;
pub mod project;
mod reads;
mod redis;
pub mod schema;
pub mod serve;
pub mod settings;
pub mod start;
pub mod sweep;
pub mod track;

/// The README's example, which must compile as it is printed.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
