//! Access tokens that others can verify by a public key: JWTs of one form (RFC 7519, RFC
//! 9068), signed by keys that come and go.
//!
//! ```text
//!  claims ─ Keys' active key ─ text
//!  text ─ its header is one that a key of ours writes ─ signature ─ claims ─ issuer, audience, time
//! ```
//!
//! A header is never a reason for anything: a token is verified by the key whose own header
//! it has, letter by letter. So there is no algorithm to choose, no key to name by a path
//! and none to bring along. Whether what a token says is still so, [`SessionTokens`] asks:
//! it recognises who has one as by the session that it was issued in.
//!
//! [`SigningKeys`] keeps the keys in the database, for all processes. Of the rest only
//! [`SessionTokens`] does I/O, by the sessions that it is given.

mod claims;
mod grants;
mod keeper;
mod keys;
mod public;
mod published;
mod record;
mod rotation;
mod sessions;
mod signing;
mod store;
#[cfg(feature = "near")]
mod verified;
mod verify;

pub use claims::Claims;
pub use grants::{Granted, TokenGrants};
pub use keeper::{SigningKeys, SigningKeysBuilder};
pub use keys::{Keys, KeysError};
pub use public::{Algorithm, Kid};
pub use rotation::{KeyState, Rotation, RotationError, Step};
pub use sessions::{SessionTokens, SessionTokensError, TokenError};
pub use signing::{SigningKey, SigningKeyError};
pub use store::KeyStoreError;
pub use verify::{AccessTokens, AccessTokensError, IssueError, Refused};

#[cfg(test)]
mod tests;
