//! Passwords: which ones are taken, how they are kept, and who may ask how often at once.
//!
//! ```text
//!  typed ─ NFKC ─ policy ─┐                 ┌ thread ─ 19 MiB that are used again
//!                         ├─ bounded queue ─┤
//!  typed ─ stored hash ───┘     or Busy     └ thread ─ …
//! ```
//!
//! New hashes are argon2id. It knows no account: what a caller asks about is the
//! text that was typed and the text that was stored, and writing a better hash
//! (by compare-and-set on the one that was read) is the caller's.

mod config;
mod cost;
mod job;
mod memory;
mod meters;
mod nobody;
pub mod policy;
mod pool;
mod queue;
mod scheme;
mod typed;
mod verified;
mod worker;

#[cfg(feature = "bcrypt")]
pub use config::OlderHashes;
pub use config::PasswordPoolConfig;
pub use cost::{CostError, HashCost};
pub use policy::{Context, Factors, NewPassword, PasswordPolicy, Weakness};
pub use pool::PasswordPool;
pub use scheme::Scheme;
pub use verified::{Upgrade, Upgraded, Verified};
