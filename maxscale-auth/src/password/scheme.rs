//! How a password is kept: which scheme a stored text is of, and whether a password is behind it.

mod argon;
#[cfg(feature = "bcrypt")]
mod bcrypt;
#[cfg(test)]
mod tests;
#[cfg(feature = "bcrypt")]
mod wrapped;

use super::cost::HashCost;
use super::memory::Memory;
use super::typed::Typed;
use crate::error::AuthError;

pub(super) use argon::Argon;
#[cfg(feature = "bcrypt")]
pub(super) use bcrypt::{Bcrypt, Setting};
#[cfg(feature = "bcrypt")]
pub(super) use wrapped::Wrapped;

/// How the hash of a password was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Scheme {
    /// There is none: no account, or one without a password.
    Nobody,
    /// By argon2.
    Argon2,
    /// By bcrypt, in an older system.
    #[cfg(feature = "bcrypt")]
    Bcrypt,
    /// By bcrypt in an older system, and by argon2id over that.
    #[cfg(feature = "bcrypt")]
    Wrapped,
}

/// A stored hash that could be read and whose cost is within the caps.
#[derive(Clone, Debug)]
pub(super) enum Stored {
    Argon(Argon),
    #[cfg(feature = "bcrypt")]
    Bcrypt(Bcrypt),
    #[cfg(feature = "bcrypt")]
    Wrapped(Wrapped),
}

/// The most that a stored hash is long. Ours have 97 to 140 characters.
const MAX_LEN: usize = 512;

// === impl Stored ===

impl Stored {
    pub(super) fn parse(text: &str) -> Result<Self, AuthError> {
        let read = match text {
            _ if text.len() > MAX_LEN => None,
            _ if text.starts_with("$argon2") => Argon::parse(text).map(Self::Argon),
            #[cfg(feature = "bcrypt")]
            _ if text.starts_with(wrapped::PREFIX) => Wrapped::parse(text).map(Self::Wrapped),
            #[cfg(feature = "bcrypt")]
            _ => Bcrypt::parse(text).map(Self::Bcrypt),
            #[cfg(not(feature = "bcrypt"))]
            _ => None,
        };
        read.ok_or(AuthError::StoredHash)
    }

    pub(super) const fn scheme(&self) -> Scheme {
        match self {
            Self::Argon(_) => Scheme::Argon2,
            #[cfg(feature = "bcrypt")]
            Self::Bcrypt(_) => Scheme::Bcrypt,
            #[cfg(feature = "bcrypt")]
            Self::Wrapped(_) => Scheme::Wrapped,
        }
    }

    pub(super) fn is_of(&self, typed: &Typed, memory: &mut Memory) -> Result<bool, AuthError> {
        match self {
            Self::Argon(hash) => hash.is_of(typed.normal().as_bytes(), memory),
            // Older systems hashed what was typed, as it was typed.
            #[cfg(feature = "bcrypt")]
            Self::Bcrypt(hash) => Ok(hash.is_of(typed.raw())),
            #[cfg(feature = "bcrypt")]
            Self::Wrapped(hash) => hash.is_of(typed.raw(), memory),
        }
    }

    /// Whether a hash that is made today would be harder to guess from.
    pub(super) fn is_outdated(&self, cost: HashCost) -> bool {
        match self {
            Self::Argon(hash) => hash.is_outdated(cost),
            #[cfg(feature = "bcrypt")]
            Self::Bcrypt(_) | Self::Wrapped(_) => true,
        }
    }
}
