use std::fmt;

use argon2::password_hash::phc::{Output, ParamsString, PasswordHash, Salt};
use argon2::{Algorithm, Argon2, Params, Version};
use maxscale_core::BoxError;
use maxscale_core::keys::Secret;
use subtle::ConstantTimeEq;

use crate::error::AuthError;
use crate::password::cost::{HashCost, MOST_LANES, MOST_MEMORY_KIB, MOST_PASSES};
use crate::password::memory::Memory;

/// A hash by argon2, in any of its kinds, whose cost is within the caps.
#[derive(Clone, Debug)]
pub(in crate::password) struct Argon {
    algorithm: Algorithm,
    version: Version,
    params: Params,
    salt: Salt,
    output: Output,
}

// === impl Argon ===

impl Argon {
    /// Reads the PHC form. Nothing is allocated by what a hash says of its cost.
    pub(in crate::password) fn parse(text: &str) -> Option<Self> {
        let stored = PasswordHash::new(text).ok()?;
        let version = match stored.version {
            // Hashes older than the field have the version that was the only one.
            None => Version::V0x10,
            Some(version) => version.try_into().ok()?,
        };
        let params = Params::try_from(&stored).ok()?;
        let fits = params.m_cost() <= MOST_MEMORY_KIB
            && params.t_cost() <= MOST_PASSES
            && params.p_cost() <= MOST_LANES;
        fits.then_some(Self {
            algorithm: stored.algorithm.as_str().try_into().ok()?,
            version,
            params,
            salt: stored.salt?,
            output: stored.hash?,
        })
    }

    /// A new hash by argon2id, with a salt of its own.
    pub(in crate::password) fn of(
        secret: &[u8],
        cost: HashCost,
        memory: &mut Memory,
    ) -> Result<Self, AuthError> {
        let salt: [u8; 16] = Secret::random()?;
        let (algorithm, version) = (Algorithm::Argon2id, Version::V0x13);
        let params = cost.params();
        let mut output = [0; Params::DEFAULT_OUTPUT_LEN];
        let argon = Argon2::new(algorithm, version, params.clone());
        fill(&argon, secret, &salt, memory, &mut output)?;
        Ok(Self {
            algorithm,
            version,
            params,
            salt: Salt::new(&salt).map_err(failed)?,
            output: Output::new(&output).map_err(failed)?,
        })
    }

    /// Whether it was made of `secret`.
    pub(in crate::password) fn is_of(
        &self,
        secret: &[u8],
        memory: &mut Memory,
    ) -> Result<bool, AuthError> {
        let argon = Argon2::new(self.algorithm, self.version, self.params.clone());
        let mut output = [0; Output::MAX_LENGTH];
        let output = &mut output[..self.output.len()];
        fill(&argon, secret, &self.salt, memory, output)?;
        Ok(self.output.as_bytes().ct_eq(output).into())
    }

    /// Whether one that is made today would be harder to guess from.
    pub(in crate::password) fn is_outdated(&self, cost: HashCost) -> bool {
        self.algorithm != Algorithm::Argon2id
            || self.version != Version::V0x13
            || self.output.len() < Params::DEFAULT_OUTPUT_LEN
            || cost.exceeds(&self.params)
    }
}

impl fmt::Display for Argon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let params = ParamsString::try_from(&self.params).map_err(|_| fmt::Error)?;
        let written = PasswordHash {
            algorithm: self.algorithm.ident(),
            version: Some(self.version.into()),
            params,
            salt: Some(self.salt),
            hash: Some(self.output),
        };
        written.fmt(f)
    }
}

fn fill(
    argon: &Argon2<'_>,
    secret: &[u8],
    salt: &[u8],
    memory: &mut Memory,
    output: &mut [u8],
) -> Result<(), AuthError> {
    let blocks = memory.blocks(argon.params().block_count())?;
    let filled = argon.hash_password_into_with_memory(secret, salt, output, blocks);
    filled.map_err(failed)
}

fn failed(error: impl Into<BoxError>) -> AuthError {
    AuthError::Hash(error.into())
}
