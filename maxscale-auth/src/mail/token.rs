use std::time::Duration;

use maxscale_core::id::Id;
use maxscale_core::keys::{KeyError, KeyRing, Secret};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::MailKind;
use crate::realm::Realm;
use crate::signed::Signed;

/// What the token in a mail is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Purpose {
    /// To end a sign-up: [`Accounts::confirm_sign_up`](crate::Accounts::confirm_sign_up).
    SignUp,
    /// To set another password: [`Accounts::reset_password`](crate::Accounts::reset_password).
    ResetPassword,
    /// To log in: [`Accounts::redeem_magic_link`](crate::Accounts::redeem_magic_link).
    LogIn,
    /// To have another address: [`Accounts::confirm_email`](crate::Accounts::confirm_email).
    ConfirmEmail,
    /// To have the old address again: [`Accounts::undo_email`](crate::Accounts::undo_email).
    UndoEmail,
}

/// For how long what is sent by mail is good.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Lifetimes {
    /// The link that ends a sign-up. Default: 24 hours.
    pub sign_up: Duration,
    /// The link that sets another password. Default: 30 minutes.
    pub reset: Duration,
    /// The link that logs in. Default: 10 minutes.
    pub magic: Duration,
    /// The link that confirms another address. Default: 1 hour.
    pub email: Duration,
    /// The link to the old address that takes a change back, and for how long nobody
    /// else gets that address. Default: 14 days.
    pub undo: Duration,
}

/// What the link in a mail carries: `mxm_` and 69 bytes in base64url.
///
/// ```text
///  1 format │ 1 key version │ 2 realm │ 1 purpose │ 16 user │ 32 secret │ 16 MAC
/// ```
///
/// Of the secret only its SHA-256 is stored, in the user's shard.
pub(crate) struct MailToken {
    pub(crate) realm: Realm,
    pub(crate) purpose: Purpose,
    pub(crate) user: Id,
    secret: [u8; 32],
}

const FORM: Signed = Signed {
    prefix: "mxm_",
    purpose: "mail-token",
    format: 1,
};
const BODY: usize = 2 + 1 + 16 + 32;

// === impl Purpose ===

impl Purpose {
    pub(crate) const ALL: [Self; 5] = [
        Self::SignUp,
        Self::ResetPassword,
        Self::LogIn,
        Self::ConfirmEmail,
        Self::UndoEmail,
    ];

    /// The number that is stored.
    pub(crate) const fn number(self) -> u8 {
        match self {
            Self::SignUp => 1,
            Self::ResetPassword => 2,
            Self::LogIn => 3,
            Self::ConfirmEmail => 4,
            Self::UndoEmail => 5,
        }
    }

    fn of(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.number() == number)
    }

    /// How many of it one user may have at a time. A sign-up that somebody else began
    /// must not take away the link of one's own; of all others a new one ends the old.
    pub(crate) const fn most(self) -> u32 {
        match self {
            Self::SignUp => 5,
            // Who took the account over could end the way back by further changes.
            Self::UndoEmail => u32::MAX,
            _ => 1,
        }
    }

    pub(crate) const fn kind(self) -> MailKind {
        match self {
            Self::SignUp => MailKind::ConfirmSignUp,
            Self::ResetPassword => MailKind::ResetPassword,
            Self::LogIn => MailKind::LogIn,
            Self::ConfirmEmail => MailKind::ConfirmEmail,
            Self::UndoEmail => MailKind::EmailChanged,
        }
    }
}

// === impl Lifetimes ===

impl Default for Lifetimes {
    fn default() -> Self {
        const HOUR: Duration = Duration::from_secs(3600);
        Self {
            sign_up: 24 * HOUR,
            reset: HOUR / 2,
            magic: HOUR / 6,
            email: HOUR,
            undo: 14 * 24 * HOUR,
        }
    }
}

impl Lifetimes {
    pub(crate) const fn of(&self, purpose: Purpose) -> Duration {
        match purpose {
            Purpose::SignUp => self.sign_up,
            Purpose::ResetPassword => self.reset,
            Purpose::LogIn => self.magic,
            Purpose::ConfirmEmail => self.email,
            Purpose::UndoEmail => self.undo,
        }
    }
}

// === impl MailToken ===

impl MailToken {
    pub(crate) fn issue(realm: Realm, purpose: Purpose, user: Id) -> Result<Self, KeyError> {
        Ok(Self {
            realm,
            purpose,
            user,
            secret: Secret::random()?,
        })
    }

    pub(crate) fn text(&self, keys: &KeyRing) -> String {
        let mut body = Vec::with_capacity(BODY);
        body.extend_from_slice(&self.realm.get().to_be_bytes());
        body.push(self.purpose.number());
        body.extend_from_slice(self.user.as_uuid().as_bytes());
        body.extend_from_slice(&self.secret);
        FORM.write(keys, &body, b"")
    }

    /// Reads a token without any I/O; `None` for what this ring did not sign.
    pub(crate) fn parse(text: &str, keys: &KeyRing) -> Option<Self> {
        let body: [u8; BODY] = FORM.read(keys, text, b"")?;
        let uuid = Uuid::from_slice(&body[3..19]).ok()?;
        Some(Self {
            realm: Realm::new(u16::from_be_bytes([body[0], body[1]])),
            purpose: Purpose::of(body[2])?,
            user: Id::from_uuid(uuid).ok()?,
            secret: body[19..].try_into().ok()?,
        })
    }

    /// What is stored of it.
    pub(crate) fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.secret).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use maxscale_core::clock::Clock;
    use maxscale_core::fact::VirtualShard;
    use maxscale_core::id::{IdGenerator, KeyspaceTag};

    #[test]
    fn token_says_where_it_belongs_and_what_for() {
        let keys = KeyRing::new(1, Secret::new([7; 32])).unwrap();
        let user = IdGenerator::new(Clock::system(), KeyspaceTag::default());
        let user = user.draw(VirtualShard::new(5));
        for purpose in Purpose::ALL {
            let token = MailToken::issue(Realm::new(3), purpose, user).unwrap();
            let text = token.text(&keys);
            let read = MailToken::parse(&text, &keys).unwrap();
            assert_eq!((read.realm, read.purpose), (Realm::new(3), purpose));
            assert_eq!((read.user, read.hash()), (user, token.hash()));
        }
        assert!(MailToken::parse("mxm_AAAA", &keys).is_none());
    }
}
