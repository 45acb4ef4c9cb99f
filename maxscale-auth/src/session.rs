//! Sessions: who a request comes from, until somebody says that it is over.
//!
//! ```text
//!  token ─ MAC (no I/O) ─ Sessions ─ near, a second at most ─ store ─ level of the secret ─ Principal
//! ```
//!
//! A session that was revoked stays so: a store keeps that for as long as the
//! session could have lasted, and nothing that was cached, late or restored
//! brings it back.

mod access;
mod activity;
mod builder;
mod change;
mod durable;
mod erased;
mod layer;
#[cfg(feature = "redis")]
mod map;
mod memory;
#[cfg_attr(not(feature = "near"), path = "session/not_near.rs")]
mod near;
mod policy;
mod recognised;
mod record;
#[cfg(feature = "redis")]
mod redis;
mod refresh;
mod rules;
mod sessions;
mod source;
mod sql;
mod store;

pub(crate) use activity::Activity;
pub use builder::SessionsBuilder;
pub use change::{ImpersonateError, Impersonation};
pub use durable::{DurableSessions, Snapshot, Untold};
pub use erased::StoreError;
pub(crate) use erased::{Answer, DynTouch, answer};
pub(crate) use layer::Nobody;
pub use layer::{SessionFuture, SessionLayer, SessionService, Strong, StrongLayer};
#[cfg(feature = "redis")]
pub use map::{SessionMap, SessionMapError, SessionRoute};
pub use memory::MemorySessions;
pub use policy::{Proof, SessionPolicy};
pub(crate) use recognised::Recognised;
pub use record::{Level, Methods, Previous, Roles, SecretHash, Session, Standing};
#[cfg(feature = "redis")]
pub use redis::{RedisSessions, RedisSessionsBuilder, RedisSessionsError};
pub use refresh::{RefreshError, RefreshTokens, Refreshed};
pub use sessions::{Consistency, Sessions};
pub(crate) use sessions::{Drawn, Known, Told};
pub(crate) use source::Source;
pub use sql::SqlSessions;
pub(crate) use sql::touch::touch;
pub use store::{
    Created, Listed, NewSession, Reach, Revoked, Rotation, SessionStore, Touch, Which, Why,
};
