//! A ring of versioned keys: MACs of tokens, and of values that name rows, and
//! sealed values (feature `seal`).
//!
//! A [`KeyRing`] signs and seals with one key and reads with any key it holds.
//! Keys for different purposes are derived (HMAC of the purpose's name), so
//! that what was made for one purpose never passes for another.
//!
//! [`Keys`] is the ring in use, which a rotation exchanges while others work.
//! With several processes a rotation has three steps, each of which reaches
//! all processes before the next begins:
//!
//! 1. [`with_old`](KeyRing::with_old): every process can read the next version.
//! 2. [`promoted`](KeyRing::promoted): every process writes it.
//! 3. [`retired`](KeyRing::retired): nothing is left that the old version wrote.

mod handle;
#[cfg(feature = "seal")]
mod seal;

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

pub use handle::Keys;
#[cfg(feature = "seal")]
pub use seal::OpenError;

/// A 256-bit MAC.
pub type Tag = [u8; 32];

/// Secret text or bytes; `Debug` never shows them.
#[derive(Clone)]
pub struct Secret(Box<[u8]>);

/// Versioned keys, of which the first writes and all read. Never changes:
/// a rotation makes another one.
#[derive(Clone, Debug)]
pub struct KeyRing {
    keys: Vec<(u8, Secret)>,
}

/// The keys of a [`KeyRing`] for one purpose, prepared for what is signed or read
/// often: to derive one takes longer than to use it.
#[derive(Clone)]
pub struct PurposeKeys {
    /// In the order of the ring.
    keys: Vec<(u8, Hmac<Sha256>)>,
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

    /// The ring has no such version.
    #[error("there is no key version {0}")]
    Unknown(u8),

    /// The version that signs cannot be taken away.
    #[error("key version {0} is the one that signs")]
    InUse(u8),

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

    /// Adds a key that only reads: an older one, or the next one before its
    /// [promotion](Self::promoted).
    ///
    /// # Errors
    ///
    /// Returns [`KeyError`] for a short key or a version given twice.
    pub fn with_old(self, version: u8, key: Secret) -> Result<Self, KeyError> {
        self.with(version, key)
    }

    /// The same keys, of which `version` signs and seals from now on.
    ///
    /// # Errors
    ///
    /// Returns [`KeyError::Unknown`] for a version that the ring does not hold.
    pub fn promoted(mut self, version: u8) -> Result<Self, KeyError> {
        let at = self.place(version)?;
        self.keys[..=at].rotate_right(1);
        Ok(self)
    }

    /// The same keys without `version`: nothing that it signed or sealed reads
    /// any more.
    ///
    /// # Errors
    ///
    /// Returns [`KeyError::InUse`] for the version that signs, and
    /// [`KeyError::Unknown`] for one that the ring does not hold.
    pub fn retired(mut self, version: u8) -> Result<Self, KeyError> {
        match self.place(version)? {
            0 => Err(KeyError::InUse(version)),
            at => {
                self.keys.remove(at);
                Ok(self)
            }
        }
    }

    fn place(&self, version: u8) -> Result<usize, KeyError> {
        let place = self.versions().position(|held| held == version);
        place.ok_or(KeyError::Unknown(version))
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

    /// The version that signs and seals.
    pub fn version(&self) -> u8 {
        self.keys.first().map_or(0, |(version, _)| *version)
    }

    /// All versions held, the one that signs first.
    pub fn versions(&self) -> impl Iterator<Item = u8> + '_ {
        self.keys.iter().map(|(version, _)| *version)
    }

    /// MACs `message` for `purpose` with the key that signs.
    pub fn sign(&self, purpose: &str, message: &[u8]) -> (u8, Tag) {
        let version = self.version();
        let tag = self.mac(version, purpose, message).unwrap_or_default();
        (version, tag)
    }

    /// Prepares the keys for many messages of one purpose.
    pub fn for_purpose(&self, purpose: &str) -> PurposeKeys {
        let keys = self.versions().filter_map(|version| {
            let derived = self.derived(version, purpose)?;
            Some((version, derived))
        });
        PurposeKeys {
            keys: keys.collect(),
        }
    }

    /// MACs `message` with the key of `version`, to look up rows named by it.
    pub fn mac(&self, version: u8, purpose: &str, message: &[u8]) -> Option<Tag> {
        let derived = self.derived(version, purpose)?;
        Some(tag_of(derived, message))
    }

    /// Whether `tag` (the first 16 or more bytes of a MAC) is right. Constant time.
    pub fn verify(&self, version: u8, purpose: &str, message: &[u8], tag: &[u8]) -> bool {
        let derived = self.derived(version, purpose);
        derived.is_some_and(|mac| is_right(mac, message, tag))
    }

    fn derived(&self, version: u8, purpose: &str) -> Option<Hmac<Sha256>> {
        let key = self.key(version, &[purpose.as_bytes()])?;
        Some(hmac(&key))
    }

    /// The key that only those who name all of `parts` get.
    fn key(&self, version: u8, parts: &[&[u8]]) -> Option<Tag> {
        let (_, key) = self.keys.iter().find(|(held, _)| *held == version)?;
        let mac = parts
            .iter()
            .fold(hmac(key.expose()), |mac, part| mac.chain_update(part));
        Some(mac.finalize().into_bytes().into())
    }
}

// === impl PurposeKeys ===

impl PurposeKeys {
    /// The version that signs.
    pub fn version(&self) -> u8 {
        self.newest().0
    }

    /// As [`KeyRing::sign`].
    pub fn sign(&self, message: &[u8]) -> (u8, Tag) {
        let (version, mac) = self.newest();
        (*version, tag_of(mac.clone(), message))
    }

    /// As [`KeyRing::verify`].
    pub fn verify(&self, version: u8, message: &[u8], tag: &[u8]) -> bool {
        let key = self.keys.iter().find(|(held, _)| *held == version);
        key.is_some_and(|(_, mac)| is_right(mac.clone(), message, tag))
    }

    fn newest(&self) -> &(u8, Hmac<Sha256>) {
        self.keys.first().expect("a ring holds the key that signs")
    }
}

impl fmt::Debug for PurposeKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let versions: Vec<u8> = self.keys.iter().map(|(version, _)| *version).collect();
        f.debug_struct("PurposeKeys")
            .field("versions", &versions)
            .finish_non_exhaustive()
    }
}

fn tag_of(mac: Hmac<Sha256>, message: &[u8]) -> Tag {
    mac.chain_update(message).finalize().into_bytes().into()
}

fn is_right(mac: Hmac<Sha256>, message: &[u8], tag: &[u8]) -> bool {
    tag.len() >= 16 && mac.chain_update(message).verify_truncated_left(tag).is_ok()
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
    fn prepared_keys_sign_and_verify_as_their_ring_does() {
        let ring = ring(2, 8).with_old(1, Secret::new([7; 32])).unwrap();
        let prepared = ring.for_purpose("session");
        assert_eq!(prepared.version(), 2);
        for message in [&b"m"[..], b"n", &[0; 200]] {
            let (version, tag) = ring.sign("session", message);
            assert_eq!(prepared.sign(message), (version, tag));
            let old = ring.mac(1, "session", message).unwrap();
            let other = ring.mac(2, "cursor", message).unwrap();
            for (version, tag, is_right) in [
                (2, &tag[..], true),
                (2, &tag[..16], true),
                (2, &tag[..15], false),
                (2, &tag[1..], false),
                (1, &tag[..], false),
                (3, &tag[..], false),
                (1, &old[..], true),
                (2, &old[..], false),
                (2, &other[..], false),
            ] {
                let verified = prepared.verify(version, message, tag);
                assert_eq!(verified, is_right, "{version} {tag:?}");
                assert_eq!(ring.verify(version, "session", message, tag), is_right);
            }
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let ring = ring(1, b'A').with_old(2, Secret::new([b'B'; 40])).unwrap();
        let keys = Keys::new(ring.clone());
        let prepared = ring.for_purpose("session");
        let shown = format!("{ring:?} {keys:?} {prepared:?} {ring:#?} {keys:#?} {prepared:#?}");
        // As text, as numbers, as hex.
        for form in ["AA", "BB", "65", "66", "41", "42"] {
            assert!(!shown.contains(form), "{shown}");
        }
        assert_eq!(format!("{:?}", Secret::new(*b"hunter2")), "Secret(***)");
    }

    #[test]
    fn promoted_version_signs_and_the_others_still_verify() {
        let old = ring(1, 7);
        let (_, tag) = old.sign("session", b"m");
        let both = old.with_old(2, Secret::new([8; 32])).unwrap();
        assert_eq!(both.version(), 1);
        let promoted = both.promoted(2).unwrap();
        assert_eq!(promoted.versions().collect::<Vec<_>>(), [2, 1]);
        assert!(promoted.verify(1, "session", b"m", &tag));
        assert!(matches!(promoted.promoted(3), Err(KeyError::Unknown(3))));
    }

    #[test]
    fn retired_version_verifies_no_more_and_the_one_that_signs_stays() {
        let (_, tag) = ring(1, 7).sign("session", b"m");
        let both = ring(2, 8).with_old(1, Secret::new([7; 32])).unwrap();
        assert!(matches!(both.clone().retired(2), Err(KeyError::InUse(2))));
        let retired = both.retired(1).unwrap();
        assert!(!retired.verify(1, "session", b"m", &tag));
        assert!(matches!(retired.retired(1), Err(KeyError::Unknown(1))));
    }
}
