//! Private keys: what signs, and the bytes that it is kept as.

use std::fmt;

use maxscale_core::keys::{KeyError, Secret};
use p256::ecdsa::signature::Signer as _;
use zeroize::Zeroizing;

use super::public::{Algorithm, Kid, PublicKey};

/// A key that signs tokens.
#[derive(Clone)]
pub struct SigningKey {
    key: Private,
    public: PublicKey,
    kid: Kid,
}

#[derive(Clone)]
enum Private {
    EdDsa(Box<ed25519_dalek::SigningKey>),
    Es256(Box<p256::ecdsa::SigningKey>),
}

/// Bytes are no key, or none could be drawn.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SigningKeyError {
    /// They are no key of this algorithm.
    #[error("32 bytes are no {} key", .0.as_str())]
    Bytes(Algorithm),
    /// The operating system gave no randomness.
    #[error(transparent)]
    Random(#[from] KeyError),
}

/// As many bytes as a private key of either algorithm has.
pub(super) const LEN: usize = 32;

// === impl SigningKey ===

impl SigningKey {
    /// Draws one.
    ///
    /// # Errors
    ///
    /// Returns [`SigningKeyError::Random`].
    pub fn random(algorithm: Algorithm) -> Result<Self, SigningKeyError> {
        loop {
            let bytes = Zeroizing::new(Secret::random::<LEN>()?);
            // Of P-256 one in four billion times billion is none.
            if let Ok(key) = Self::from_bytes(algorithm, &bytes) {
                return Ok(key);
            }
        }
    }

    /// The key of these bytes: the seed of RFC 8032, or the scalar of P-256 in big endian.
    ///
    /// # Errors
    ///
    /// Returns [`SigningKeyError::Bytes`].
    pub fn from_bytes(algorithm: Algorithm, bytes: &[u8; LEN]) -> Result<Self, SigningKeyError> {
        let (key, public) = match algorithm {
            Algorithm::EdDsa => {
                let key = ed25519_dalek::SigningKey::from_bytes(bytes);
                let public = PublicKey::EdDsa(key.verifying_key());
                (Private::EdDsa(Box::new(key)), public)
            }
            Algorithm::Es256 => {
                let key = p256::ecdsa::SigningKey::from_slice(bytes);
                let key = key.map_err(|_| SigningKeyError::Bytes(algorithm))?;
                let public = PublicKey::Es256(Box::new(*key.verifying_key()));
                (Private::Es256(Box::new(key)), public)
            }
        };
        let kid = public.kid();
        Ok(Self { key, public, kid })
    }

    /// The bytes that [`from_bytes`](Self::from_bytes) takes.
    pub fn to_bytes(&self) -> Secret {
        match &self.key {
            Private::EdDsa(key) => Secret::new(key.to_bytes()),
            Private::Es256(key) => Secret::new(key.to_bytes().as_slice()),
        }
    }

    /// How it signs.
    pub const fn algorithm(&self) -> Algorithm {
        self.public.algorithm()
    }

    /// Its name.
    pub const fn kid(&self) -> &Kid {
        &self.kid
    }

    pub(super) const fn public(&self) -> &PublicKey {
        &self.public
    }

    /// 64 bytes, as a token has them.
    pub(super) fn sign(&self, message: &[u8]) -> [u8; 64] {
        match &self.key {
            Private::EdDsa(key) => key.sign(message).to_bytes(),
            Private::Es256(key) => {
                let signature: p256::ecdsa::Signature = key.sign(message);
                signature.to_bytes().into()
            }
        }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("algorithm", &self.algorithm())
            .field("kid", &self.kid)
            .finish_non_exhaustive()
    }
}
