mod fingerprint;

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use maxscale_core::id::Id;
use maxscale_core::keys::{KeyError, KeyRing, PurposeKeys, Secret};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::realm::Realm;
use crate::session::SecretHash;

#[cfg(feature = "jwt")]
pub(crate) use fingerprint::AccessPrint;
pub(crate) use fingerprint::{By, Fingerprint};

/// What a logged-in client holds: `mxs_` and 86 bytes in base64url.
///
/// ```text
///  1 format │ 1 key version │ 2 realm │ 2 region │ 16 user │ 16 session │ 32 secret │ 16 MAC
/// ```
///
/// It carries its own routing: the user's id names the shard. The region is zero,
/// for later. The MAC tells a
/// forged one without any I/O; the secret is stored only as its SHA-256.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionToken {
    pub(crate) user: Id,
    pub(crate) session: Id,
    bytes: Presented,
}

/// What somebody shows as a token. It is as long as one, and that is all that is known.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Presented([u8; LEN]);

const PREFIX: &str = "mxs_";
const PURPOSE: &str = "session-token";
const FORMAT: u8 = 2;
const REGION: [u8; 2] = [0; 2];
const USER_AT: usize = 6;
const SESSION_AT: usize = 22;
const SECRET_AT: usize = 38;
const SIGNED: usize = 70;
const MAC_LEN: usize = 16;
const LEN: usize = SIGNED + MAC_LEN;

// === impl SessionToken ===

impl SessionToken {
    /// Draws a secret, and signs all of it.
    pub(crate) fn issue(
        keys: &PurposeKeys,
        realm: Realm,
        user: Id,
        session: Id,
    ) -> Result<Self, KeyError> {
        let mut bytes = [0; LEN];
        bytes[0] = FORMAT;
        bytes[1] = keys.version();
        bytes[2..4].copy_from_slice(&realm.get().to_be_bytes());
        bytes[4..USER_AT].copy_from_slice(&REGION);
        bytes[USER_AT..SESSION_AT].copy_from_slice(user.as_uuid().as_bytes());
        bytes[SESSION_AT..SECRET_AT].copy_from_slice(session.as_uuid().as_bytes());
        bytes[SECRET_AT..SIGNED].copy_from_slice(&Secret::random::<32>()?);
        let (_, tag) = keys.sign(&bytes[..SIGNED]);
        bytes[SIGNED..].copy_from_slice(&tag[..MAC_LEN]);
        Ok(Self {
            user,
            session,
            bytes: Presented(bytes),
        })
    }

    /// The keys of `ring` for tokens.
    pub(crate) fn keys(ring: &KeyRing) -> PurposeKeys {
        ring.for_purpose(PURPOSE)
    }

    /// The token's text, for a cookie or an `Authorization: Bearer` header.
    pub(crate) fn text(&self) -> String {
        format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(self.bytes.0))
    }

    pub(crate) fn realm(&self) -> Realm {
        self.bytes.realm()
    }

    /// What was shown to be this token.
    pub(crate) const fn presented(&self) -> &Presented {
        &self.bytes
    }

    pub(crate) fn secret_hash(&self) -> SecretHash {
        self.bytes.secret_hash()
    }

    pub(crate) fn fingerprint(&self) -> Fingerprint {
        Fingerprint {
            user: self.user,
            session: self.session,
            by: By::Secret(self.bytes.print()),
        }
    }
}

// === impl Presented ===

impl Presented {
    /// Reads what may be a token; `None` for what cannot be one.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let text = text.strip_prefix(PREFIX)?;
        // In place: every request has one.
        let mut bytes = [0; LEN];
        let read = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes);
        (read == Ok(LEN) && bytes[0] == FORMAT).then_some(Self(bytes))
    }

    /// The token that it is; `None` for anything that these keys did not sign.
    pub(crate) fn verify(self, keys: &PurposeKeys) -> Option<SessionToken> {
        let (signed, tag) = self.0.split_at(SIGNED);
        if !keys.verify(signed[1], signed, tag) {
            return None;
        }
        Some(SessionToken {
            user: Id::from_uuid(self.user()).ok()?,
            session: Id::from_uuid(Uuid::from_bytes(self.part(SESSION_AT))).ok()?,
            bytes: self,
        })
    }

    /// Whose it would be.
    pub(crate) fn user(&self) -> Uuid {
        Uuid::from_bytes(self.part(USER_AT))
    }

    fn realm(&self) -> Realm {
        Realm::new(u16::from_be_bytes(self.part(2)))
    }

    fn secret_hash(&self) -> SecretHash {
        SecretHash::new(Sha256::digest(self.part::<32>(SECRET_AT)).into())
    }

    fn part<const N: usize>(&self, from: usize) -> [u8; N] {
        let mut part = [0; N];
        part.copy_from_slice(&self.0[from..from + N]);
        part
    }
}

impl fmt::Debug for SessionToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionToken")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use maxscale_core::clock::Clock;
    use maxscale_core::fact::VirtualShard;
    use maxscale_core::id::{IdGenerator, KeyspaceTag};

    #[test]
    fn only_an_untouched_token_is_read() {
        let keys = |byte| {
            let ring = KeyRing::new(1, Secret::new([byte; 32])).unwrap();
            SessionToken::keys(&ring)
        };
        let (keys, other) = (keys(7), keys(8));
        let ids = IdGenerator::new(Clock::system(), KeyspaceTag::default());
        let draw = || ids.draw(VirtualShard::new(5));
        let token = SessionToken::issue(&keys, Realm::MAIN, draw(), draw()).unwrap();
        let text = token.text();
        let parse = |text: &str, keys| Presented::read(text)?.verify(keys);
        assert_eq!(parse(&text, &keys), Some(token.clone()));
        let print = token.fingerprint();
        assert!(print.is_of(token.presented()));

        let raw = URL_SAFE_NO_PAD.decode(&text[4..]).unwrap();
        for bit in 0..raw.len() * 8 {
            let mut bad = raw.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let bad = format!("mxs_{}", URL_SAFE_NO_PAD.encode(bad));
            let shown = Presented::read(&bad);
            assert!(!shown.is_some_and(|it| print.is_of(&it)), "bit {bit}");
            assert!(parse(&bad, &keys).is_none(), "bit {bit}");
        }
        for bad in [
            "",
            "mxs_",
            &text[4..],
            &text[..text.len() - 1],
            &format!("{text}A"),
            &format!("{text}{}", "A".repeat(1_000_000)),
        ] {
            assert!(parse(bad, &keys).is_none(), "{bad}");
        }
        assert!(parse(&text, &other).is_none());
    }
}
