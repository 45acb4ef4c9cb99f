use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use maxscale_core::id::Id;
use maxscale_core::keys::{KeyError, KeyRing, PurposeKeys, Secret};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::realm::Realm;
use crate::session::SecretHash;

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
    realm: Realm,
    pub(crate) user: Id,
    pub(crate) session: Id,
    secret: [u8; 32],
}

const PREFIX: &str = "mxs_";
const PURPOSE: &str = "session-token";
const FORMAT: u8 = 2;
const REGION: [u8; 2] = [0; 2];
const SIGNED: usize = 70;
const LEN: usize = SIGNED + 16;

// === impl SessionToken ===

impl SessionToken {
    pub(crate) fn issue(realm: Realm, user: Id, session: Id) -> Result<Self, KeyError> {
        Ok(Self {
            realm,
            user,
            session,
            secret: Secret::random()?,
        })
    }

    /// The keys of `ring` for tokens.
    pub(crate) fn keys(ring: &KeyRing) -> PurposeKeys {
        ring.for_purpose(PURPOSE)
    }

    /// The token's text, for a cookie or an `Authorization: Bearer` header.
    pub(crate) fn text(&self, keys: &PurposeKeys) -> String {
        let mut bytes = vec![FORMAT, keys.version()];
        bytes.extend_from_slice(&self.realm.get().to_be_bytes());
        bytes.extend_from_slice(&REGION);
        bytes.extend_from_slice(self.user.as_uuid().as_bytes());
        bytes.extend_from_slice(self.session.as_uuid().as_bytes());
        bytes.extend_from_slice(&self.secret);
        let (_, tag) = keys.sign(&bytes);
        bytes.extend_from_slice(&tag[..16]);
        format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))
    }

    /// Reads a token; `None` for anything that these keys did not sign.
    pub(crate) fn parse(text: &str, keys: &PurposeKeys) -> Option<Self> {
        let text = text.strip_prefix(PREFIX)?;
        // In place: every request has one.
        let mut bytes = [0; LEN];
        let read = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes);
        if read != Ok(LEN) {
            return None;
        }
        let (signed, tag) = bytes.split_at(SIGNED);
        if signed[0] != FORMAT || !keys.verify(signed[1], signed, tag) {
            return None;
        }
        let id = |from: usize| {
            let uuid = Uuid::from_slice(signed.get(from..from + 16)?).ok()?;
            Id::from_uuid(uuid).ok()
        };
        Some(Self {
            realm: Realm::new(u16::from_be_bytes([signed[2], signed[3]])),
            user: id(6)?,
            session: id(22)?,
            secret: signed[38..].try_into().ok()?,
        })
    }

    pub(crate) fn realm(&self) -> Realm {
        self.realm
    }

    pub(crate) fn secret_hash(&self) -> SecretHash {
        SecretHash::new(Sha256::digest(self.secret).into())
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
        let token = SessionToken::issue(Realm::MAIN, draw(), draw()).unwrap();
        let text = token.text(&keys);
        assert_eq!(SessionToken::parse(&text, &keys), Some(token));

        let raw = URL_SAFE_NO_PAD.decode(&text[4..]).unwrap();
        for bit in 0..raw.len() * 8 {
            let mut bad = raw.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let bad = format!("mxs_{}", URL_SAFE_NO_PAD.encode(bad));
            assert!(SessionToken::parse(&bad, &keys).is_none(), "bit {bit}");
        }
        for bad in [
            "",
            "mxs_",
            &text[4..],
            &text[..text.len() - 1],
            &format!("{text}A"),
            &format!("{text}{}", "A".repeat(1_000_000)),
        ] {
            assert!(SessionToken::parse(bad, &keys).is_none(), "{bad}");
        }
        assert!(SessionToken::parse(&text, &other).is_none());
    }
}
