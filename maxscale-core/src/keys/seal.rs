//! XChaCha20-Poly1305 under a key of the ring.
//!
//! ```text
//!  1 format │ 1 key version │ 24 nonce │ ciphertext │ 16 tag
//! ```
//!
//! A nonce of 24 random bytes never comes twice in practice, however many
//! values are sealed. Format and version are authenticated with the rest.

use chacha20poly1305::aead::inout::InOutBuf;
use chacha20poly1305::{AeadInOut, KeyInit, XChaCha20Poly1305};

use super::{KeyError, KeyRing, Secret};

const FORMAT: u8 = 1;
/// Format and version.
const HEAD: usize = 2;
const NONCE: usize = 24;
const TAG: usize = 16;

/// No text begins with this byte, so no purpose of a MAC gives a key that seals.
const SEALS: &[u8] = &[0xff];

/// Why a sealed value did not open.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The bytes were not sealed by this code, or were cut off.
    #[error("not a sealed value")]
    NotSealed,

    /// Sealed under a key that the ring does not hold, or no longer.
    #[error("sealed under key version {0}, which is not held")]
    Unknown(u8),

    /// Changed after it was sealed, or sealed by another key, for another
    /// purpose or with other associated data.
    #[error("the sealed value is not authentic")]
    Forged,
}

// === impl KeyRing ===

#[cfg_attr(docsrs, doc(cfg(feature = "seal")))]
impl KeyRing {
    /// How much longer a sealed value is than what it holds.
    pub const SEAL_OVERHEAD: usize = HEAD + NONCE + TAG;

    /// Encrypts `plain` under the key that signs, for `purpose`.
    ///
    /// It opens only with the same `associated` data. Name there where the
    /// value belongs, such as its row, and nobody can put it elsewhere.
    ///
    /// # Errors
    ///
    /// Returns [`KeyError::Random`] when the operating system gives no nonce.
    ///
    /// # Panics
    ///
    /// Panics if `plain` has 256 GiB or more.
    pub fn seal(
        &self,
        purpose: &str,
        associated: &[u8],
        plain: &[u8],
    ) -> Result<Vec<u8>, KeyError> {
        Ok(self.seal_with(Secret::random()?, purpose, associated, plain))
    }

    /// Decrypts what [`seal`](Self::seal) made under any key of the ring.
    ///
    /// # Errors
    ///
    /// Returns [`OpenError`] for anything else.
    pub fn open(
        &self,
        purpose: &str,
        associated: &[u8],
        sealed: &[u8],
    ) -> Result<Vec<u8>, OpenError> {
        let Parts {
            head,
            nonce,
            text,
            tag,
        } = Parts::of(sealed).ok_or(OpenError::NotSealed)?;
        let cipher = self
            .cipher(head[1], purpose)
            .ok_or(OpenError::Unknown(head[1]))?;
        let mut plain = text.to_vec();
        cipher
            .decrypt_inout_detached(
                &(*nonce).into(),
                &bound(head, associated),
                plain.as_mut_slice().into(),
                &(*tag).into(),
            )
            .map_err(|_| OpenError::Forged)?;
        Ok(plain)
    }

    /// The version under which a value was sealed, by its own claim; to find
    /// what must be sealed again before a version is
    /// [retired](Self::retired).
    pub fn sealed_under(sealed: &[u8]) -> Option<u8> {
        Parts::of(sealed).map(|parts| parts.head[1])
    }

    fn seal_with(
        &self,
        nonce: [u8; NONCE],
        purpose: &str,
        associated: &[u8],
        plain: &[u8],
    ) -> Vec<u8> {
        let version = self.version();
        let cipher = self
            .cipher(version, purpose)
            .expect("the ring holds the version that signs");
        let mut sealed = Vec::with_capacity(plain.len() + Self::SEAL_OVERHEAD);
        sealed.extend([FORMAT, version]);
        sealed.extend(nonce);
        sealed.extend(plain);
        let (head, text) = sealed.split_at_mut(HEAD + NONCE);
        let tag = cipher
            .encrypt_inout_detached(
                &nonce.into(),
                &bound(&head[..HEAD], associated),
                InOutBuf::from(text),
            )
            .expect("nobody holds 256 GiB in one value");
        sealed.extend(tag);
        sealed
    }

    fn cipher(&self, version: u8, purpose: &str) -> Option<XChaCha20Poly1305> {
        let key = self.key(version, &[SEALS, purpose.as_bytes()])?;
        Some(XChaCha20Poly1305::new(&key.into()))
    }
}

/// A sealed value, taken apart.
struct Parts<'a> {
    head: &'a [u8; HEAD],
    nonce: &'a [u8; NONCE],
    text: &'a [u8],
    tag: &'a [u8; TAG],
}

// === impl Parts ===

impl<'a> Parts<'a> {
    fn of(sealed: &'a [u8]) -> Option<Self> {
        let (head, rest) = sealed.split_first_chunk()?;
        let (nonce, rest) = rest.split_first_chunk()?;
        let (text, tag) = rest.split_last_chunk()?;
        (head[0] == FORMAT).then_some(Self {
            head,
            nonce,
            text,
            tag,
        })
    }
}

/// What is authenticated besides the nonce and the ciphertext.
fn bound(head: &[u8], associated: &[u8]) -> Vec<u8> {
    [head, associated].concat()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ring() -> KeyRing {
        let ring = KeyRing::new(2, Secret::new([2; 32])).unwrap();
        ring.with_old(1, Secret::new([1; 32]))
            .and_then(|ring| ring.with_old(3, Secret::new([3; 32])))
            .unwrap()
    }

    #[test]
    fn golden_bytes_open_for_ever() {
        let sealed = ring().seal_with([9; NONCE], "job", b"row 1", b"hunter2");
        let hex: String = sealed.iter().map(|b| format!("{b:02x}")).collect();
        // The same bytes come out of an implementation that shares no code with this one.
        let golden = concat!(
            "0102090909090909090909090909090909090909090909090909",
            "700fad2eb820e1",
            "9c1fd7c022b5dc522b91875cf2c476eb",
        );
        assert_eq!(hex, golden);
        assert_eq!(ring().open("job", b"row 1", &sealed).unwrap(), b"hunter2");
    }

    #[test]
    fn flipped_bit_never_opens() {
        let ring = ring();
        let sealed = ring
            .seal("job", b"row 1", b"hunter2 and 25 bytes more")
            .unwrap();
        for bit in 0..sealed.len() * 8 {
            let mut bad = sealed.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(ring.open("job", b"row 1", &bad).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn value_moved_elsewhere_does_not_open() {
        let ring = ring();
        let sealed = ring.seal("job", b"row 1", b"hunter2").unwrap();
        let opened = |purpose, row| ring.open(purpose, row, &sealed);
        assert!(opened("job", b"row 1").is_ok());
        assert!(matches!(opened("job", b"row 2"), Err(OpenError::Forged)));
        assert!(matches!(opened("jo", b"row 1"), Err(OpenError::Forged)));
        let mut other = sealed.clone();
        other[1] = 3;
        let opened = ring.open("job", b"row 1", &other);
        assert!(matches!(opened, Err(OpenError::Forged)));
    }

    #[test]
    fn value_under_a_retired_key_names_its_version() {
        let sealed = ring().seal("job", b"", b"hunter2").unwrap();
        let retired = ring().promoted(3).and_then(|ring| ring.retired(2)).unwrap();
        assert_eq!(KeyRing::sealed_under(&sealed), Some(2));
        let opened = retired.open("job", b"", &sealed);
        assert!(matches!(opened, Err(OpenError::Unknown(2))));
    }

    #[test]
    fn key_that_seals_is_no_mac() {
        // Whoever may have anything signed must not learn a key.
        let key = ring().key(2, &[SEALS, b"job"]).unwrap();
        assert_ne!(ring().mac(2, "job", b""), Some(key));
        assert_ne!(ring().key(2, &[b"job"]).unwrap(), key);
    }

    proptest! {
        #[test]
        fn anything_sealed_opens_and_shows_nothing(
            plain: Vec<u8>,
            associated: Vec<u8>,
            purpose: String,
        ) {
            let sealed = ring().seal(&purpose, &associated, &plain).unwrap();
            prop_assert_eq!(sealed.len(), plain.len() + KeyRing::SEAL_OVERHEAD);
            prop_assert_eq!(ring().open(&purpose, &associated, &sealed).unwrap(), plain);
        }

        #[test]
        fn no_bytes_of_others_open(bytes: Vec<u8>) {
            prop_assert!(ring().open("job", b"", &bytes).is_err());
            let dressed = [&[FORMAT, 2][..], &bytes].concat();
            prop_assert!(ring().open("job", b"", &dressed).is_err());
        }
    }
}
