//! A ring of versioned keys: MACs of tokens, and of values that name rows.
//!
//! The ring signs with its newest key and verifies with any key it holds, so a
//! key is rotated by adding the next version and dropping the old one later.
//! Keys for different purposes are derived (HMAC of the purpose's name), so
//! that a MAC made for one purpose never passes for another.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// A 256-bit MAC.
pub type Tag = [u8; 32];

/// Secret text or bytes; `Debug` never shows them.
#[derive(Clone)]
pub struct Secret(Box<[u8]>);

/// Versioned keys, newest first.
#[derive(Clone, Debug)]
pub struct KeyRing {
    keys: Vec<(u8, Secret)>,
}

/// Why a [`KeyRing`] could not be built, or randomness not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// A key is shorter than [`KeyRing::MIN_LEN`].
    #[error(
        "key version {version} has {len} bytes, at least {} are needed",
        KeyRing::MIN_LEN
    )]
    TooShort {
        /// The key's version.
        version: u8,
        /// Its length in bytes.
        len: usize,
    },

    /// Two keys have the same version.
    #[error("key version {0} is given twice")]
    Twice(u8),

    /// The operating system gave no random bytes.
    #[error("the operating system gave no random bytes")]
    Random(#[source] getrandom::Error),
}

// === impl Secret ===

impl Secret {
    /// Takes the bytes of a secret.
    pub fn new(bytes: impl Into<Box<[u8]>>) -> Self {
        Self(bytes.into())
    }

    /// Draws `N` bytes from the operating system.
    ///
    /// # Errors
    ///
    /// Returns [`KeyError::Random`] when the operating system refuses.
    pub fn random<const N: usize>() -> Result<[u8; N], KeyError> {
        let mut bytes = [0; N];
        getrandom::fill(&mut bytes).map_err(KeyError::Random)?;
        Ok(bytes)
    }

    /// The secret's bytes. Do not log them.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

// === impl KeyRing ===

impl KeyRing {
    /// The shortest key allowed, in bytes.
    pub const MIN_LEN: usize = 32;

    /// A ring that signs with `newest` under `version`.
    ///
    /// # Errors
    ///
    /// Returns [`KeyError::TooShort`] for a key under 32 bytes.
    pub fn new(version: u8, newest: Secret) -> Result<Self, KeyError> {
        Self { keys: Vec::new() }.with(version, newest)
    }

    /// Adds an older key that still verifies.
    ///
    /// # Errors
    ///
    /// Returns [`KeyError`] for a short key or a version given twice.
    pub fn with_old(self, version: u8, key: Secret) -> Result<Self, KeyError> {
        self.with(version, key)
    }

    fn with(mut self, version: u8, key: Secret) -> Result<Self, KeyError> {
        let len = key.expose().len();
        if len < Self::MIN_LEN {
            return Err(KeyError::TooShort { version, len });
        }
        if self.keys.iter().any(|(held, _)| *held == version) {
            return Err(KeyError::Twice(version));
        }
        self.keys.push((version, key));
        Ok(self)
    }

    /// The version that signs.
    pub fn version(&self) -> u8 {
        self.keys.first().map_or(0, |(version, _)| *version)
    }

    /// All versions held, newest first.
    pub fn versions(&self) -> impl Iterator<Item = u8> + '_ {
        self.keys.iter().map(|(version, _)| *version)
    }

    /// MACs `message` for `purpose` with the newest key.
    pub fn sign(&self, purpose: &str, message: &[u8]) -> (u8, Tag) {
        let version = self.version();
        let tag = self.mac(version, purpose, message).unwrap_or_default();
        (version, tag)
    }

    /// MACs `message` with the key of `version`, to look up rows named by it.
    pub fn mac(&self, version: u8, purpose: &str, message: &[u8]) -> Option<Tag> {
        self.derived(version, purpose)
            .map(|mac| mac.chain_update(message).finalize().into_bytes().into())
    }

    /// Whether `tag` (the first 16 or more bytes of a MAC) is right. Constant time.
    pub fn verify(&self, version: u8, purpose: &str, message: &[u8], tag: &[u8]) -> bool {
        tag.len() >= 16
            && self
                .derived(version, purpose)
                .is_some_and(|mac| mac.chain_update(message).verify_truncated_left(tag).is_ok())
    }

    fn derived(&self, version: u8, purpose: &str) -> Option<Hmac<Sha256>> {
        let (_, key) = self.keys.iter().find(|(held, _)| *held == version)?;
        let key: Tag = hmac(key.expose())
            .chain_update(purpose.as_bytes())
            .finalize()
            .into_bytes()
            .into();
        Some(hmac(&key))
    }
}

fn hmac(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes keys of any length")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(version: u8, byte: u8) -> KeyRing {
        KeyRing::new(version, Secret::new([byte; 32])).unwrap()
    }

    #[test]
    fn old_versions_verify_after_rotation() {
        let (version, tag) = ring(1, 7).sign("session", b"m");
        let rotated = ring(2, 8).with_old(1, Secret::new([7; 32])).unwrap();
        assert!(rotated.verify(version, "session", b"m", &tag[..16]));
        assert_eq!(rotated.version(), 2);
    }

    #[test]
    fn any_flipped_bit_or_other_purpose_is_refused() {
        let ring = ring(1, 7);
        let (version, tag) = ring.sign("session", b"m");
        for bit in 0..256 {
            let mut bad = tag;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(!ring.verify(version, "session", b"m", &bad));
        }
        assert!(!ring.verify(version, "cursor", b"m", &tag));
        assert!(!ring.verify(version, "session", b"m", &tag[..15]));
        assert!(!ring.verify(2, "session", b"m", &tag));
    }

    #[test]
    fn debug_shows_no_secret() {
        assert_eq!(format!("{:?}", Secret::new(*b"hunter2")), "Secret(***)");
    }
}
