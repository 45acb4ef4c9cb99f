//! Who is asking: accounts by email and password, and sessions that are rows.
//!
//! ```text
//!  sign up ─ hash ─ reserve the email ─ account, token and mail in one transaction ─ confirm the email
//!  its link ─ MAC (no I/O for a forged one) ─ token taken, session begun, in one transaction
//!  request ─ cookie ─ MAC (no I/O for a forged one) ─ session ─ Principal ─ guard
//! ```
//!
//! It runs its SQL through `maxscale-shard` and opens no socket of its own.
//! Attempts at passwords and tokens are counted by core's limiter.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod account;
pub mod api_key;
mod audit;
#[cfg(feature = "axum")]
mod axum;
mod background;
mod cookie;
mod csrf;
mod email;
mod error;
mod floor;
mod gate;
mod guard;
#[cfg(feature = "jwt")]
pub mod jwt;
pub mod mail;
pub mod password;
mod principal;
mod realm;
#[cfg(feature = "routes")]
pub mod routes;
mod schema;
pub mod session;
mod signed;
#[cfg(feature = "testkit")]
pub mod testkit;
mod token;

pub use account::{
    Accounts, AccountsBuilder, AccountsError, Client, LoggedIn, SignUps, SignedUp, Swept, User,
};
pub use api_key::ApiKeys;
pub use audit::{AuditEvent, AuditSink, Audited, Unproved};
pub use cookie::{Ambiguous, CookiePolicy};
pub use csrf::{Csrf, CsrfFuture, CsrfLayer, OriginError};
pub use email::Email;
pub use error::AuthError;
pub use floor::{Floor, Held};
pub use guard::{
    Aal2, Allowed, Demand, Denied, Fresh, FreshWithin, Guard, Require, RequireFuture, RequireLayer,
    SecondFactor,
};
pub use mail::{Mail, MailKind, Mailer, Outbox, Purpose};
pub use password::{PasswordPool, PasswordPoolConfig};
pub use principal::Principal;
pub use realm::Realm;
pub use schema::MIGRATIONS;
pub use session::{SessionLayer, Sessions, StrongLayer};
pub use token::SessionToken;
