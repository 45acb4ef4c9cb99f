//! What a token is remembered by, which is no token itself.

use std::fmt;

use maxscale_core::id::Id;

use super::{MAC_LEN, Presented, SECRET_AT, SIGNED};
use crate::session::SecretHash;

/// One of a session's tokens, to be told from all others: who has this has no token.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Fingerprint {
    pub(crate) user: Id,
    pub(crate) session: Id,
    pub(crate) by: By,
}

/// By what a session is recognised.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum By {
    /// Its secret.
    Secret(SecretPrint),
    /// Nothing of it: an API key, by the SHA-256 of its secret. The session is the key's id.
    Key(SecretHash),
    /// An access token that was issued in it.
    #[cfg(feature = "jwt")]
    Access(AccessPrint),
}

/// All of a session token but its secret, of which it has the SHA-256.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct SecretPrint {
    /// What comes before the secret, and the MAC after it.
    open: ([u8; SECRET_AT], [u8; MAC_LEN]),
    pub(crate) hash: SecretHash,
}

/// An access token that was verified, by its SHA-256, and what it says.
#[cfg(feature = "jwt")]
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct AccessPrint {
    pub(crate) hash: SecretHash,
    pub(crate) level: crate::session::Level,
    /// In whole seconds.
    pub(crate) authenticated_at: maxscale_core::clock::Timestamp,
    /// From when on it counts for nothing.
    pub(crate) until: maxscale_core::clock::Timestamp,
}

// === impl Fingerprint ===

impl Fingerprint {
    /// Stands for a session's secret that is not in a session token: none is this one, as
    /// none begins with a zero.
    pub(crate) const fn of_no_token(user: Id, session: Id, hash: SecretHash) -> Self {
        let open = ([0; SECRET_AT], [0; MAC_LEN]);
        Self {
            user,
            session,
            by: By::Secret(SecretPrint { open, hash }),
        }
    }

    /// Whether it is this token that is shown: then it is as good as verified, without
    /// the MAC's three turns of SHA-256.
    ///
    /// What is open is compared in the time that it takes. Who found it out, MAC and all,
    /// would have no token yet: nobody gets further without the secret, and the MAC is of
    /// a token with that secret only.
    pub(crate) fn is_of(&self, shown: &Presented) -> bool {
        match &self.by {
            By::Secret(SecretPrint { open, hash }) => {
                shown.0.starts_with(&open.0)
                    && shown.0.ends_with(&open.1)
                    && shown.secret_hash() == *hash
            }
            By::Key(_) => false,
            #[cfg(feature = "jwt")]
            By::Access(_) => false,
        }
    }
}

impl Presented {
    pub(super) fn print(&self) -> SecretPrint {
        SecretPrint {
            open: (self.part(0), self.part(SIGNED)),
            hash: self.secret_hash(),
        }
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fingerprint")
            .field("user", &self.user)
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}
