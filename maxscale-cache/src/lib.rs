//! Values near (L1) and far (L2), and how a dropped key is dropped everywhere.
//!
//! ```text
//!  get_or_load ─ L1 ─ miss ─ one flight per key ─ L2 ─ miss ─ claim ─ load ─ fill L2 ─ fill L1
//!                 │                                                    (both fenced)
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
//!   L1 is told by a message. If that gets lost, it is noticed by the next
//!   heartbeats, and L2 is asked before anything of L1 is served: at most 1.5 s
//!   after the change, also by a process that was frozen meanwhile. Whoever
//!   needs the change at once takes the [`Token`] along
//!   ([`Cache::get_min_version`]).
//! - **While L2 is down**: reads go from L1, each value for at most a second,
//!   to the load, at most [`Hub::DEFAULT_LOAD_LIMIT`] at once; nothing fails
//!   because of L2. An invalidation that L2 did not confirm is kept in memory
//!   and sent until it does; until then this process does not use L2 for that
//!   key. There is room for 65,536 of them; one more turns L2 off for as long
//!   as old values live.
//! - **If this process dies meanwhile**, its unconfirmed invalidations die with
//!   it: others may see the old value until its `l2_ttl`
//!   ([`CacheSpec::l2_ttl`], 1 h) ended. With a [journal](HubBuilder::journal)
//!   they are on disk, and sent when the process is back. Carry the [`Invalidation`] in the
//!   transaction that makes the change where that is too long, and
//!   [`Hub::apply`] it.
//! - **An L2 that comes back** empty, with older data, or as another server (a
//!   failover) costs misses; nothing from before is served.
//! - **Writes** that go [through](Cache::write_through) the cache leave no older
//!   value in it, also if they fail, race or are given up. Those that are to
//!   reach the source later are what [`behind`] is for, which says what it keeps.
//! - **Two versions of a schema** in different processes: an invalidation
//!   reaches both, in all tiers.
//!
//! [`Invalidation`]: maxscale_core::fact::Invalidation

#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod behind;
pub mod codec;
#[cfg(feature = "conformance")]
pub mod conformance;
#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "memcached")]
pub mod memcached;
pub mod remote;

mod cache;
mod envelope;
mod error;
mod expiry;
mod far;
mod flight;
mod hub;
mod journal;
mod key;
mod l1;
mod message;
mod near;
mod pending;
mod pins;
mod roll;
mod schemas;
mod shown;
mod stats;
mod tags;
mod ticks;

pub use cache::{Cache, CacheSpec, Token, TokenError};
pub use error::{CacheError, JournalError, UnknownKind, WriteError};
pub use hub::{Hub, HubBuilder, Invalidated};
pub use l1::L1Engine;
pub use near::{Begun, Near};
pub use stats::Stats;
