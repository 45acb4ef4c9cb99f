//! Access tokens that this process has verified, so that it does so once.
//!
//! What it says of one holds for as long as the token lives: whether the session behind it
//! still does is not asked here, nor whether its key is still there.

use std::sync::Arc;

use maxscale_cache::Near;
use maxscale_core::clock::Timestamp;
use uuid::Uuid;

use super::verify::AccessTokens;
use crate::session::{SecretHash, Sessions};
use crate::token::{AccessPrint, By, Fingerprint};

/// How the bus calls it.
const KIND: &str = "auth-access";

/// The tokens that were verified, as far as the hub's budget goes.
#[derive(Clone, Debug)]
pub(super) struct Verified {
    near: Near<Seen>,
    /// Handles on one hub do not take over what the others have verified: they may be of
    /// another issuer, or for another audience.
    own: Own,
}

/// Tells handles apart, by where it lies.
type Own = Arc<()>;

/// A token that was verified.
#[derive(Debug)]
struct Seen {
    by: Own,
    token: Fingerprint,
}

// === impl Verified ===

impl Verified {
    /// Those of sessions that are remembered are, too, and on the same hub.
    pub(super) fn beside(sessions: &Sessions) -> Option<Self> {
        let near = sessions.beside(KIND, AccessTokens::MAX_LIFE + AccessTokens::LEEWAY)?;
        let own = Own::default();
        Some(Self { near, own })
    }

    /// The token with this hash, if it was verified and its time is not over at `now`.
    pub(super) fn get(&self, hash: &SecretHash, now: Timestamp) -> Option<Fingerprint> {
        let seen = with_name(hash, |name| self.near.get(name))?;
        let By::Access(AccessPrint {
            hash: of, until, ..
        }) = &seen.token.by
        else {
            return None;
        };
        let is_it = Arc::ptr_eq(&seen.by, &self.own) && of == hash && now < *until;
        is_it.then(|| seen.token.clone())
    }

    pub(super) fn keep(&self, hash: &SecretHash, token: &Fingerprint) {
        let begun = with_name(hash, |name| self.near.begin(name));
        self.near.keep(&begun, |_| Seen {
            by: self.own.clone(),
            token: token.clone(),
        });
    }
}

/// Half of the hash: what is found by it is compared with all of it.
fn with_name<T>(hash: &SecretHash, then: impl FnOnce(&str) -> T) -> T {
    let mut half = [0; 16];
    half.copy_from_slice(&hash.bytes()[..16]);
    let half = Uuid::from_bytes(half);
    then(half.simple().encode_lower(&mut [0; 32]))
}
