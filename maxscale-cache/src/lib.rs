//! Values near (L1) and far (L2), and how a dropped key is dropped everywhere.
//!
//! ```text
//!  get_or_load ─ L1 ─ miss ─ one flight per key ─ L2 ─ miss ─ load ─ fill L2 ─ fill L1
//!                 │                                            (both fenced)
//!  invalidate ────┴── this process at once ── L2 and its fence ── other processes
//! ```
//!
//! A [`Hub`] holds the tiers of a process; a [`Cache`] is one type of values in
//! it. L2 is a [`remote::Remote`]: in this process, in Redis (feature `redis`),
//! or one's own. This crate runs no SQL; the caller says how a value is loaded.
//!
//! # What is guaranteed
//!
//! - **In the process that invalidates**: once [`Cache::invalidate`] was called,
//!   no later read returns an older value, whatever was being loaded or read
//!   meanwhile, and whatever L2 does.
//! - **In other processes**: as soon as L2 has confirmed
//!   ([`Invalidated::Everywhere`]) L2 has no older value, and none gets in. Their
//!   L1 is told by a message. If that gets lost, they serve what they have for
//!   at most `l1_ttl` ([`CacheSpec::l1_ttl`], 1 s), counted from the moment the value was last
//!   known to be true. A gap that the connection notices empties L1.
//! - **While L2 is down**: reads go from L1 to the load, at most
//!   [`Hub::DEFAULT_LOAD_LIMIT`] at once; nothing fails because of L2. An
//!   invalidation that L2 did not confirm is kept in memory and sent until it
//!   does; until then this process does not use L2 for that key. There is room
//!   for 65,536 of them; one more turns L2 off for as long as old values live.
//! - **If this process dies meanwhile**, its unconfirmed invalidations die with
//!   it: others may see the old value until its `l2_ttl` ([`CacheSpec::l2_ttl`], 60 s) and then
//!   their `l1_ttl` ended. Carry the [`Invalidation`] in the transaction
//!   that makes the change where that is too long, and [`Hub::apply`] it.
//! - **An L2 that comes back empty** costs misses. One that comes back with
//!   older data (a failover) may serve it for its TTL.
//! - **Two versions of a schema** in different processes: an invalidation
//!   reaches the other version's L1 and not its values in L2.
//!
//! [`Invalidation`]: maxscale_core::fact::Invalidation

#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "conformance")]
pub mod conformance;
#[cfg(feature = "http")]
pub mod http;
pub mod remote;

mod cache;
mod envelope;
mod error;
mod expiry;
mod far;
mod flight;
mod hub;
mod key;
mod l1;
mod message;
mod pending;
mod stats;

pub use cache::{Cache, CacheSpec};
pub use error::{CacheError, UnknownKind};
pub use hub::{Hub, HubBuilder, Invalidated};
pub use stats::Stats;
