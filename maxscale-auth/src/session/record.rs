//! What is kept of a session, and what its times and secrets allow.
//!
//! It reads no clock and no store.

use std::fmt;
use std::ops::BitOr;
use std::sync::Arc;
use std::time::Duration;

use maxscale_core::clock::Timestamp;
use maxscale_core::id::Id;
use subtle::ConstantTimeEq;

/// A session as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Whose it is.
    pub user: Id,
    /// Its own id, which is no secret.
    pub id: Id,
    /// SHA-256 of the token's secret.
    pub secret_hash: SecretHash,
    /// When it began.
    pub created_at: Timestamp,
    /// Its last request, as far as it was written.
    pub last_active: Timestamp,
    /// When its user last proved who he is.
    pub authenticated_at: Timestamp,
    /// How long it lasts without a request.
    pub idle: Duration,
    /// When it ends in any case.
    pub ends_at: Timestamp,
    /// How strong the proof was.
    pub level: Level,
    /// By what the proof was made.
    pub methods: Methods,
    /// Counts the exchanges of its secret, from 1 on.
    pub version: u32,
    /// The secret before, while requests with it may be under way.
    pub previous: Option<Previous>,
    /// Who acts in the user's name, if it is not the user.
    pub actor: Option<Id>,
}

/// SHA-256 of a secret. Compared in constant time; `Debug` does not show it.
#[derive(Clone, Copy)]
pub struct SecretHash([u8; 32]);

/// A secret that was exchanged, and until when it still counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Previous {
    /// SHA-256 of it.
    pub secret_hash: SecretHash,
    /// When it ends.
    pub until: Timestamp,
    /// The level that it had, and keeps.
    pub level: Level,
}

/// How sure it is that somebody is who he says: the authenticator assurance
/// levels of NIST SP 800-63B.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Level {
    /// One factor.
    #[default]
    Aal1,
    /// Two factors.
    Aal2,
}

/// By what somebody proved who he is; a set.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Methods(u16);

/// The names of a user's roles. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Roles(Option<Arc<str>>);

/// What all sessions of a user share.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// What the user may do, as the application names it.
    pub roles: Roles,
    /// Counts what was changed of the user's sessions and roles: what somebody
    /// knows of an older number may no longer be true.
    pub changes: u64,
}

// === impl Session ===

impl Session {
    /// Whether its times allow it at `now`.
    pub fn is_live(&self, now: Timestamp) -> bool {
        now < self.live_until()
    }

    /// When it ends if there is no request any more.
    pub(crate) fn live_until(&self) -> Timestamp {
        self.ends_at.min(self.last_active.after(self.idle))
    }

    /// The level at which a token with this secret counts at `now`; `None` if the
    /// secret is wrong, or the session over.
    pub fn level_of(&self, secret: &SecretHash, now: Timestamp) -> Option<Level> {
        // Both are compared, whatever the first one says.
        let current = self.secret_hash == *secret;
        let previous = self.previous.filter(|it| it.secret_hash == *secret);
        if !self.is_live(now) {
            return None;
        }
        match previous {
            _ if current => Some(self.level),
            Some(previous) if now < previous.until => Some(previous.level.min(self.level)),
            _ => None,
        }
    }
}

// === impl SecretHash ===

impl SecretHash {
    /// Takes the 32 bytes of a SHA-256.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes, to be stored.
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl PartialEq for SecretHash {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for SecretHash {}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash(..)")
    }
}

// === impl Level ===

impl Level {
    /// The level as a number, as it is stored.
    pub const fn number(self) -> u8 {
        match self {
            Self::Aal1 => 1,
            Self::Aal2 => 2,
        }
    }

    /// The level of a stored number; an unknown one is the lowest.
    pub const fn of(number: u8) -> Self {
        match number {
            2 => Self::Aal2,
            _ => Self::Aal1,
        }
    }
}

// === impl Methods ===

impl Methods {
    /// A password.
    pub const PASSWORD: Self = Self(1);
    /// A link that came by mail.
    pub const MAIL: Self = Self(1 << 1);
    /// A code of a second device.
    pub const CODE: Self = Self(1 << 2);
    /// A key that the device holds.
    pub const PASSKEY: Self = Self(1 << 3);
    /// Another provider's word.
    pub const PROVIDER: Self = Self(1 << 4);
    /// A recovery code.
    pub const RECOVERY: Self = Self(1 << 5);

    /// The set as it is stored.
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// The set of stored bits.
    pub const fn of(bits: u16) -> Self {
        Self(bits)
    }

    /// Whether all of `other` are in it.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for Methods {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Debug for Methods {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Methods({:#b})", self.0)
    }
}

// === impl Roles ===

impl Roles {
    /// The longest text of all roles of one user, in bytes.
    pub const MAX_LEN: usize = 1_024;

    /// The roles of these names; `None` if one is empty or has anything but
    /// ASCII letters, digits, `-`, `_`, `.` and `:`, or all are longer than
    /// [`MAX_LEN`](Self::MAX_LEN).
    pub fn new<'n>(names: impl IntoIterator<Item = &'n str>) -> Option<Self> {
        let mut names: Vec<&str> = names.into_iter().collect();
        names.sort_unstable();
        names.dedup();
        let text = names.join(" ");
        let fits = text.len() <= Self::MAX_LEN && names.iter().all(|name| is_name(name));
        fits.then(|| Self::of(&text))
    }

    /// The roles of a stored text.
    pub fn of(text: &str) -> Self {
        // Most users have none, and nothing is set aside for them.
        Self((!text.is_empty()).then(|| text.into()))
    }

    /// The roles as one text: their names in order, a space between two.
    pub fn text(&self) -> &str {
        self.0.as_deref().unwrap_or_default()
    }

    /// The names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.text().split(' ').filter(|name| !name.is_empty())
    }

    /// Whether `role` is one of them.
    pub fn has(&self, role: &str) -> bool {
        self.names().any(|name| name == role)
    }
}

fn is_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.:".contains(&b);
    !name.is_empty() && name.bytes().all(plain)
}
