//! Public keys: what verifies, and how it is told to others.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use p256::ecdsa::signature::Verifier as _;
use sha2::{Digest, Sha256};

/// How a key signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Algorithm {
    /// `EdDSA` on Curve25519 (RFC 8037).
    EdDsa,
    /// `ES256`: ECDSA on P-256 with SHA-256 (RFC 7518, 3.4).
    Es256,
}

/// A key's name: the thumbprint of its public part (RFC 7638), so that two keys never
/// have the same one.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Kid(Box<str>);

/// Verifies what one key signed.
#[derive(Clone, Debug)]
pub(super) enum PublicKey {
    EdDsa(ed25519_dalek::VerifyingKey),
    Es256(Box<p256::ecdsa::VerifyingKey>),
}

// === impl Algorithm ===

impl Algorithm {
    /// The name in a header and in a key set.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::EdDsa => "EdDSA",
            Self::Es256 => "ES256",
        }
    }
}

// === impl Kid ===

impl Kid {
    /// The name as it stands in a header: 43 letters of base64url.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Kid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Kid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kid({})", self.0)
    }
}

// === impl PublicKey ===

impl PublicKey {
    pub(super) const fn algorithm(&self) -> Algorithm {
        match self {
            Self::EdDsa(_) => Algorithm::EdDsa,
            Self::Es256(_) => Algorithm::Es256,
        }
    }

    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            // A key of small order would verify what nobody signed.
            Self::EdDsa(key) => ed25519_dalek::Signature::from_slice(signature)
                .is_ok_and(|signature| key.verify_strict(message, &signature).is_ok()),
            Self::Es256(key) => p256::ecdsa::Signature::from_slice(signature)
                .is_ok_and(|signature| key.verify(message, &signature).is_ok()),
        }
    }

    /// What makes the key, as members of a JSON object (RFC 7517), in the order and without
    /// the blanks that RFC 7638 asks for.
    fn members(&self) -> String {
        match self {
            Self::EdDsa(key) => {
                let x = URL_SAFE_NO_PAD.encode(key.as_bytes());
                format!(r#""crv":"Ed25519","kty":"OKP","x":"{x}""#)
            }
            Self::Es256(key) => {
                let point = key.to_sec1_point(false);
                let text = |part: Option<&p256::FieldBytes>| {
                    URL_SAFE_NO_PAD.encode(part.map(|it| it.as_slice()).unwrap_or_default())
                };
                let (x, y) = (text(point.x()), text(point.y()));
                format!(r#""crv":"P-256","kty":"EC","x":"{x}","y":"{y}""#)
            }
        }
    }

    pub(super) fn kid(&self) -> Kid {
        let print = Sha256::digest(format!("{{{}}}", self.members()));
        Kid(URL_SAFE_NO_PAD.encode(print).into())
    }

    /// The key as an entry of a key set.
    pub(super) fn jwk(&self) -> String {
        let (members, algorithm, kid) = (self.members(), self.algorithm().as_str(), self.kid());
        format!(r#"{{{members},"alg":"{algorithm}","use":"sig","kid":"{kid}"}}"#)
    }

    /// The header that this key's tokens have, as it stands in them.
    pub(super) fn header(&self) -> String {
        let (algorithm, kid) = (self.algorithm().as_str(), self.kid());
        let json = format!(r#"{{"alg":"{algorithm}","typ":"at+jwt","kid":"{kid}"}}"#);
        URL_SAFE_NO_PAD.encode(json)
    }
}
