//! What a store of sessions must do.

use std::future::Future;
use std::num::NonZeroU32;

use maxscale_core::clock::Timestamp;
use maxscale_core::id::Id;
use maxscale_core::refusal::Classify;

use super::record::{Level, Methods, Roles, SecretHash, Session, Standing};

/// Keeps sessions. Each method is one atomic step.
///
/// **Revocation absorbs**: once [`revoke`](Self::revoke) has answered, no call of
/// any method, begun before or after it, in this process or another, makes
/// [`load`](Self::load) return the session again; also not after a crash of
/// whatever the store is made of. `testkit` has the suite that shows it.
pub trait SessionStore: Send + Sync + 'static {
    /// Why the store did not answer.
    type Error: std::error::Error + Classify + Send + Sync + 'static;

    /// Stores a new session, unless one of its id is or was there.
    ///
    /// Where its user would then have more than `most` that live, the ones that
    /// were active longest ago end in the same step.
    fn create(
        &self,
        new: &NewSession<'_>,
        most: NonZeroU32,
    ) -> impl Future<Output = Result<Created, Self::Error>> + Send;

    /// The session, if it is there and was not revoked, and what its user's share.
    /// Whether its times allow it is the caller's to say.
    fn load(
        &self,
        user: Id,
        session: Id,
    ) -> impl Future<Output = Result<Option<(Session, Standing)>, Self::Error>> + Send;

    /// Moves `last_active` forward where it is earlier. Never creates a session,
    /// never brings one back.
    ///
    /// How exactly it is kept is the store's choice: it may lag by an eighth of the
    /// session's idle time, or by an hour if that is less, and pass over a session
    /// that is being changed. So callers need not save touches for its sake.
    fn touch(&self, touches: &[Touch]) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Exchanges the secret, if the session is there and still has the version
    /// that `rotation` names: of two that race one gets true.
    fn rotate(
        &self,
        user: Id,
        session: Id,
        rotation: &Rotation,
    ) -> impl Future<Output = Result<bool, Self::Error>> + Send;

    /// Ends sessions of `user`, and says which.
    fn revoke(
        &self,
        user: Id,
        which: Which,
        why: Why,
    ) -> impl Future<Output = Result<Revoked, Self::Error>> + Send;

    /// The user's sessions that are there and not revoked, the newest first.
    fn list(&self, user: Id) -> impl Future<Output = Result<Vec<Listed>, Self::Error>> + Send;

    /// Gives the user other roles, which his sessions have from then on.
    fn set_roles(
        &self,
        user: Id,
        roles: &Roles,
    ) -> impl Future<Output = Result<Reach, Self::Error>> + Send;

    /// Makes known that the user's sessions or roles were changed underneath, in a
    /// transaction on what keeps them for good. May be repeated.
    fn changed(&self, user: Id) -> impl Future<Output = Result<Reach, Self::Error>> + Send;
}

/// A session that begins.
#[derive(Clone, Copy, Debug)]
pub struct NewSession<'a> {
    /// What every request reads.
    pub session: &'a Session,
    /// How the device called itself, for its user to recognise it.
    pub device: &'a str,
}

/// What came of [`SessionStore::create`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "stored or not")]
pub enum Created {
    /// It is stored; these had to end for it.
    Stored {
        /// The ids of the ones that ended.
        ended: Vec<Id>,
    },
    /// One of its id is or was there; nothing has changed.
    Exists,
}

/// A request that a session was used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Touch {
    /// Whose session.
    pub user: Id,
    /// Which.
    pub session: Id,
    /// When.
    pub at: Timestamp,
}

/// An exchange of a session's secret.
#[derive(Clone, Copy, Debug)]
pub struct Rotation {
    /// The version that the session must have.
    pub expected: u32,
    /// SHA-256 of the new secret.
    pub secret_hash: SecretHash,
    /// Until when the old secret counts, at the level that it had.
    pub grace_until: Timestamp,
    /// The level from now on.
    pub level: Level,
    /// By what it was proved, all together.
    pub methods: Methods,
    /// When it was proved.
    pub authenticated_at: Timestamp,
}

/// Which of a user's sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "stores match on it")]
pub enum Which {
    /// This one.
    One(Id),
    /// All but this one.
    Others(Id),
    /// All.
    All,
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Why {
    /// Its user logged out, or ended it from another session.
    LoggedOut,
    /// The user has too many.
    TooMany,
    /// The password was changed or reset.
    PasswordChanged,
    /// The email address was changed.
    EmailChanged,
    /// Somebody who runs the service said so.
    Ordered,
    /// Something showed that it is in wrong hands.
    Compromised,
}

/// What [`SessionStore::revoke`] ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revoked {
    /// The ids of the ones that were there.
    pub ended: Vec<Id>,
    /// How far it has got.
    pub reach: Reach,
}

/// How far a change has got when its caller goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
#[expect(clippy::exhaustive_enums, reason = "callers choose by it")]
pub enum Reach {
    /// No copy of what was before is served by the store any more.
    Everywhere,
    /// It is stored for good, but a copy that others read could not be told: it is
    /// being told again, by this process and by any other that can reach it.
    Stored,
}

/// A session as its user may see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The session.
    pub session: Session,
    /// How the device called itself.
    pub device: String,
}

// === impl Reach ===

impl Reach {
    /// As far as both have got.
    pub const fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Everywhere, Self::Everywhere) => Self::Everywhere,
            _ => Self::Stored,
        }
    }
}

// === impl Why ===

impl Why {
    /// The reason as a number, as it is stored.
    pub const fn number(self) -> u8 {
        match self {
            Self::LoggedOut => 1,
            Self::TooMany => 2,
            Self::PasswordChanged => 3,
            Self::EmailChanged => 4,
            Self::Ordered => 5,
            Self::Compromised => 6,
        }
    }
}
