//! What a refresh token is made of, and how the next one follows from it.

use std::fmt;

use maxscale_core::id::Id;
use maxscale_core::keys::{KeyError, KeyRing, Secret};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::realm::Realm;
use crate::session::record::SecretHash;
use crate::signed::Signed;

/// A refresh token: `mxr_` and 88 bytes in base64url.
///
/// ```text
///  2 realm │ 16 user │ 16 session │ 4 generation │ 32 secret
/// ```
///
/// The next one's secret is a MAC of this one's, so whoever is asked for it twice gives the
/// same, without keeping it: what is stored is the SHA-256 of either. Neither who reads the
/// rows nor who has the ring alone can make one.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct RefreshToken {
    realm: Realm,
    pub(super) user: Id,
    pub(super) session: Id,
    /// As the session's version: from 1 on.
    pub(super) generation: u32,
    secret: [u8; 32],
}

const FORM: Signed = Signed {
    prefix: "mxr_",
    purpose: "refresh-token",
    format: 1,
};

const SUCCESSOR: &str = "refresh-token-successor";

const USER: usize = 2;
const SESSION: usize = USER + 16;
const GENERATION: usize = SESSION + 16;
const SECRET: usize = GENERATION + 4;
const LEN: usize = SECRET + 32;

// === impl RefreshToken ===

impl RefreshToken {
    pub(super) fn first(realm: Realm, user: Id, session: Id) -> Result<Self, KeyError> {
        Ok(Self {
            realm,
            user,
            session,
            generation: 1,
            secret: Secret::random()?,
        })
    }

    pub(super) fn secret_hash(&self) -> SecretHash {
        SecretHash::new(Sha256::digest(self.secret).into())
    }

    /// The token after this one.
    pub(super) fn next(&self, ring: &KeyRing) -> Self {
        let (_, secret) = ring.sign(SUCCESSOR, &self.body());
        self.followed_by(secret)
    }

    /// What [`next`](Self::next) gave, by whichever key of the ring was the newest then.
    pub(super) fn nexts(&self, ring: &KeyRing) -> impl Iterator<Item = Self> {
        let body = self.body();
        let secrets = ring.versions();
        secrets.filter_map(move |version| {
            let secret = ring.mac(version, SUCCESSOR, &body)?;
            Some(self.followed_by(secret))
        })
    }

    fn followed_by(&self, secret: [u8; 32]) -> Self {
        Self {
            generation: self.generation.saturating_add(1),
            secret,
            ..self.clone()
        }
    }

    pub(super) fn text(&self, ring: &KeyRing) -> String {
        FORM.write(ring, &self.body(), &[])
    }

    /// Reads a text; `None` for what this ring did not sign, or for another realm.
    pub(super) fn read(text: &str, ring: &KeyRing, realm: Realm) -> Option<Self> {
        let body: [u8; LEN] = FORM.read(ring, text, &[])?;
        let id = |from: usize| {
            let uuid = Uuid::from_slice(body.get(from..from + 16)?).ok()?;
            Id::from_uuid(uuid).ok()
        };
        let generation = body[GENERATION..SECRET].try_into().ok()?;
        let token = Self {
            realm: Realm::new(u16::from_be_bytes([body[0], body[1]])),
            user: id(USER)?,
            session: id(SESSION)?,
            generation: u32::from_be_bytes(generation),
            secret: body[SECRET..].try_into().ok()?,
        };
        (token.realm == realm).then_some(token)
    }

    fn body(&self) -> [u8; LEN] {
        let mut body = [0; LEN];
        body[..USER].copy_from_slice(&self.realm.get().to_be_bytes());
        body[USER..SESSION].copy_from_slice(self.user.as_uuid().as_bytes());
        body[SESSION..GENERATION].copy_from_slice(self.session.as_uuid().as_bytes());
        body[GENERATION..SECRET].copy_from_slice(&self.generation.to_be_bytes());
        body[SECRET..].copy_from_slice(&self.secret);
        body
    }
}

impl fmt::Debug for RefreshToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RefreshToken")
            .field("user", &self.user)
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use maxscale_core::clock::Clock;
    use maxscale_core::fact::VirtualShard;
    use maxscale_core::id::{IdGenerator, KeyspaceTag};

    use super::*;

    fn ring(version: u8) -> KeyRing {
        KeyRing::new(version, Secret::new([version; 32])).unwrap()
    }

    fn token() -> RefreshToken {
        let ids = IdGenerator::new(Clock::system(), KeyspaceTag::default());
        let draw = || ids.draw(VirtualShard::new(5));
        RefreshToken::first(Realm::MAIN, draw(), draw()).unwrap()
    }

    #[test]
    fn only_an_untouched_token_of_this_ring_and_realm_is_read() {
        let (token, ring_1) = (token(), ring(1));
        let text = token.text(&ring_1);
        let read = |text: &str, ring: &KeyRing, realm| RefreshToken::read(text, ring, realm);
        assert_eq!(read(&text, &ring_1, Realm::MAIN), Some(token));
        assert_eq!(read(&text, &ring_1, Realm::new(1)), None);
        assert_eq!(read(&text, &ring(2), Realm::MAIN), None);
        for place in 0..text.len() {
            let mut bad = text.clone().into_bytes();
            bad[place] = if bad[place] == b'A' { b'B' } else { b'A' };
            let bad = String::from_utf8(bad).unwrap();
            assert_eq!(read(&bad, &ring_1, Realm::MAIN), None, "{place}");
        }
        for bad in ["", "mxr_", &text[4..], &text[..text.len() - 1]] {
            assert_eq!(read(bad, &ring_1, Realm::MAIN), None, "{bad}");
        }
    }

    #[test]
    fn next_one_is_the_same_each_time_also_once_the_ring_has_another_key() {
        let token = token();
        let next = token.next(&ring(1));
        assert_eq!(next, token.next(&ring(1)));
        assert_eq!(next.generation, 2);
        assert_ne!(next.secret, token.secret);
        assert_ne!(next, token.next(&ring(2)));
        assert_ne!(next.next(&ring(1)).secret, next.secret);
        let both = ring(2).with_old(1, Secret::new([1; 32])).unwrap();
        assert_ne!(token.next(&both), next);
        assert!(token.nexts(&both).any(|it| it == next));
    }
}
