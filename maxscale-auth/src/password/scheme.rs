//! How a password is kept: which scheme a stored text is of, and whether a password is behind it.

mod argon;

use super::cost::HashCost;
use super::memory::Memory;
use super::typed::Typed;
use crate::error::AuthError;

pub(super) use argon::Argon;

/// How the hash of a password was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Scheme {
    /// There is none: no account, or one without a password.
    Nobody,
    /// By argon2.
    Argon2,
}

/// A stored hash that could be read and whose cost is within the caps.
#[derive(Clone, Debug)]
pub(super) enum Stored {
    Argon(Argon),
}

/// The most that a stored hash is long. Ours have 97 to 131 characters.
const MAX_LEN: usize = 512;

// === impl Stored ===

impl Stored {
    pub(super) fn parse(text: &str) -> Result<Self, AuthError> {
        let read = match text {
            _ if text.len() > MAX_LEN => None,
            _ if text.starts_with("$argon2") => Argon::parse(text).map(Self::Argon),
            _ => None,
        };
        read.ok_or(AuthError::StoredHash)
    }

    pub(super) const fn scheme(&self) -> Scheme {
        match self {
            Self::Argon(_) => Scheme::Argon2,
        }
    }

    pub(super) fn is_of(&self, typed: &Typed, memory: &mut Memory) -> Result<bool, AuthError> {
        match self {
            Self::Argon(hash) => hash.is_of(typed.normal().as_bytes(), memory),
        }
    }

    /// Whether a hash that is made today would be harder to guess from.
    pub(super) fn is_outdated(&self, cost: HashCost) -> bool {
        match self {
            Self::Argon(hash) => hash.is_outdated(cost),
        }
    }
}
