//! Who is asking: accounts by email and password, and sessions that are rows.
//!
//! ```text
//!  sign up ─ hash ─ reserve the email ─ account, token and mail in one transaction ─ confirm the email
//!  its link ─ MAC (no I/O for a forged one) ─ token taken, session begun, in one transaction
//!  request ─ cookie ─ MAC (no I/O for a forged one) ─ one row in the user's shard ─ Principal
//! ```
//!
//! It runs its SQL through `maxscale-shard` and opens no socket of its own.
//! Attempts at passwords and tokens are counted by core's limiter.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod account;
mod background;
mod cookie;
mod email;
mod error;
pub mod mail;
mod password;
mod principal;
mod realm;
mod schema;
pub mod session;
mod signed;
mod token;

pub use account::{
    Accounts, AccountsBuilder, AccountsError, Client, LoggedIn, SignUps, SignedUp, Swept, User,
};
pub use cookie::CookiePolicy;
pub use email::Email;
pub use error::AuthError;
pub use mail::{Mail, MailKind, Mailer, Outbox, Purpose};
pub use password::{PasswordPool, PasswordPoolConfig};
pub use principal::Principal;
pub use realm::Realm;
pub use schema::MIGRATIONS;
pub use session::{SessionLayer, Sessions};
pub use token::SessionToken;
