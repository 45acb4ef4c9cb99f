use std::fmt;

use super::argon::Argon;
use super::bcrypt::{Bcrypt, Setting};
use crate::error::AuthError;
use crate::password::cost::HashCost;
use crate::password::memory::Memory;

/// argon2id over a bcrypt digest: what an account is kept under whose owner has not
/// been back, so that a stolen table holds no hash that bcrypt alone protects.
///
/// ```text
///  $mxs-bcrypt $2b$10$<salt> $argon2id$v=19$m=19456,t=2,p=1$<salt>$<hash>
/// ```
///
/// (without the spaces). What argon2id hashes are the 23 bytes of the digest.
#[derive(Clone, Debug)]
pub(in crate::password) struct Wrapped {
    inner: Setting,
    outer: Argon,
}

pub(in crate::password) const PREFIX: &str = "$mxs-bcrypt";

// === impl Wrapped ===

impl Wrapped {
    pub(in crate::password) fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix(PREFIX)?;
        let (inner, outer) = rest.split_at_checked(Setting::LEN)?;
        Some(Self {
            inner: Setting::parse(inner)?,
            outer: Argon::parse(outer)?,
        })
    }

    pub(in crate::password) fn over(
        hash: Bcrypt,
        cost: HashCost,
        memory: &mut Memory,
    ) -> Result<Self, AuthError> {
        let (inner, digest) = hash.into_parts();
        let outer = Argon::of(&digest, cost, memory)?;
        Ok(Self { inner, outer })
    }

    pub(in crate::password) fn is_of(
        &self,
        password: &str,
        memory: &mut Memory,
    ) -> Result<bool, AuthError> {
        self.outer.is_of(&self.inner.digest(password), memory)
    }
}

impl fmt::Display for Wrapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { inner, outer } = self;
        write!(f, "{PREFIX}{inner}{outer}")
    }
}
