//! Which virtual shard owns a key, which node holds it, and a connection to it.
//!
//! ```text
//!  key ── Vindex ──> VirtualShard ── Topology ──> NodeId ── Router ──> Database
//!                    (pure, no I/O)               (pure)               PostgreSQL or SQLite
//! ```
//!
//! The same statement runs on both engines through [`Conn`]; an engine is a
//! feature (`postgres`, `sqlite`) and a URL scheme. This crate knows no Redis,
//! no session and no job.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod claim;
mod database;
mod directory;
mod engine;
mod error;
pub mod fleet;
mod freshness;
mod hex;
mod key;
mod keyspace;
pub mod layer;
mod migrate;
mod random;
mod recovery;
pub mod registry;
pub mod residency;
mod router;
pub mod saga;
pub mod scatter;
mod sql;
pub mod telemetry;
mod topology;
pub mod two_phase;
mod vindex;

pub use claim::{Claim, ClaimError, Claims, Reconciled};
pub use database::{Announcements, Database, DatabaseOptions, Failure, Health, KnownDown};
pub use engine::capabilities::{Capabilities, Product};
pub use error::ShardError;
pub use fleet::{Fleet, FleetConfig};
pub use freshness::{FreshShard, Freshness, FreshnessError};
pub use key::{Key, KeyError};
pub use keyspace::{Keyspace, KeyspaceError};
pub use migrate::{Migration, MigrationSet};
pub use recovery::{Recovering, Recovery};
pub use router::{
    Endpoint, Explanation, Node, ReadPolicy, ReloadError, Role, Route, Router, Shard, Why,
    WritesRefused,
};
pub use sql::{
    Committed, Conn, Engine, FromColumn, Isolation, Outcome, Row, Sql, Statement, Tx, TxId,
    TxOptions, Value, Watermark, Work, sql,
};
pub use topology::{
    Epoch, MapTextError, NodeId, Override, SlotMove, SlotState, Target, Topology, TopologyBuilder,
    TopologyError,
};
#[cfg(feature = "toml")]
pub use topology::{MapFile, MapFileError};
pub use vindex::{RegionRange, Regions, RegionsError, Vindex, VindexError};

/// The README's example, which needs files for nodes.
#[cfg(all(doctest, feature = "sqlite"))]
#[doc = include_str!("../README.md")]
struct Readme;
