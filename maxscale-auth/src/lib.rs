//! Who is asking: accounts by email and password, and sessions that are rows.
//!
//! ```text
//!  sign up ─ hash ─ reserve the email ─ user and session in one transaction ─ confirm the email
//!  request ─ cookie ─ MAC (no I/O for a forged one) ─ one row in the user's shard ─ Principal
//! ```
//!
//! It runs its SQL through `maxscale-shard` and opens no socket of its own. Rate
//! limits on logins are the caller's, by core's limiter.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod account;
mod cookie;
mod email;
mod error;
mod floor;
pub mod password;
mod principal;
mod realm;
mod schema;
pub mod session;
mod token;

pub use account::{Accounts, AccountsBuilder, LoggedIn, User};
pub use cookie::CookiePolicy;
pub use email::Email;
pub use error::AuthError;
pub use floor::{Floor, Held};
pub use password::{PasswordPool, PasswordPoolConfig};
pub use principal::Principal;
pub use realm::Realm;
pub use schema::MIGRATIONS;
pub use session::{SessionLayer, Sessions};
pub use token::SessionToken;
