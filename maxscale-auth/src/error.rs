use std::time::Duration;

use maxscale_core::BoxError;
use maxscale_core::keys::KeyError;
use maxscale_core::limit::AttemptError;
use maxscale_core::refusal::{Class, Classify};
use maxscale_shard::{ClaimError, ShardError};

use crate::password::Weakness;
use crate::session::StoreError;

/// Nobody could be recognised, registered or logged in.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuthError {
    /// The text is not an email address.
    #[error("the email address is not valid")]
    Email,

    /// The password's length is outside the bounds.
    #[error("the password must have {min} to {max} characters")]
    PasswordLength {
        /// The fewest characters.
        min: usize,
        /// The most characters.
        max: usize,
    },

    /// The password is one that is guessed early; its length is right.
    #[error(transparent)]
    Weak(Weakness),

    /// The name is empty, too long, or has control characters.
    #[error("the name must have 1 to {max} characters and no control characters")]
    Name {
        /// The most characters.
        max: usize,
    },

    /// An account with this email exists, or is being created.
    #[error("an account with this email exists")]
    EmailTaken,

    /// The email or the password is wrong; which of them is not told.
    #[error("the email or the password is wrong")]
    Credentials,

    /// The password is right, and the address was never verified.
    #[error("the email address is not verified")]
    Unverified,

    /// What was proved is right, and the account is locked.
    #[error("the account is locked")]
    Locked,

    /// The token of a mail is forged, used, replaced by a newer one, or too old; which
    /// of them is not told.
    #[error("the link is not valid, or no longer")]
    MailToken,

    /// The account was changed meanwhile, so that nothing was done.
    #[error("the account was changed meanwhile")]
    Changed,

    /// Who acts in a user's name may not do this.
    #[error("only the user may do this")]
    ActsForUser,

    /// The session is too old for this: the password is needed.
    #[error("the password is needed for this")]
    NotFresh,

    /// The request carries no valid session.
    #[error("log in first")]
    NotLoggedIn,

    /// More passwords wait to be checked than the pool takes.
    #[error("too many passwords are being checked")]
    Busy,

    /// A stored password hash cannot be read.
    #[error("a stored password hash cannot be read")]
    StoredHash,

    /// Hashing failed.
    #[error("cannot hash a password")]
    Hash(#[source] BoxError),

    /// The operating system gave no randomness, or a key is bad.
    #[error(transparent)]
    Key(#[from] KeyError),

    /// A mail was not taken, and nothing was done that it was for.
    #[error("cannot hand over a mail")]
    Mail(#[source] BoxError),

    /// Too much was tried, or nobody can say how much.
    #[error(transparent)]
    Attempts(#[from] AttemptError),

    /// The store of sessions did not answer.
    #[error(transparent)]
    Session(#[from] StoreError),

    /// A database could not be asked.
    #[error(transparent)]
    Shard(#[from] ShardError),
}

impl From<Weakness> for AuthError {
    fn from(weakness: Weakness) -> Self {
        match weakness {
            Weakness::Length { min, max } => Self::PasswordLength { min, max },
            weakness => Self::Weak(weakness),
        }
    }
}

impl AuthError {
    /// Whether it is about somebody, and not about how the service is.
    pub(crate) const fn is_about_someone(&self) -> bool {
        !matches!(
            self,
            Self::Busy
                | Self::Attempts(_)
                | Self::Hash(_)
                | Self::Key(_)
                | Self::Mail(_)
                | Self::Session(_)
                | Self::Shard(_)
        )
    }
}

impl From<ClaimError> for AuthError {
    fn from(error: ClaimError) -> Self {
        match error {
            ClaimError::Shard(error) => Self::Shard(error),
            ClaimError::Value => Self::Email,
            _ => Self::EmailTaken,
        }
    }
}

impl Classify for AuthError {
    fn class(&self) -> Class {
        match self {
            Self::Email
            | Self::PasswordLength { .. }
            | Self::Weak(_)
            | Self::Name { .. }
            | Self::MailToken => Class::Unprocessable,
            Self::EmailTaken | Self::Changed => Class::Conflict,
            Self::Credentials | Self::NotLoggedIn => Class::Unauthenticated,
            Self::Unverified | Self::Locked | Self::ActsForUser | Self::NotFresh => {
                Class::Forbidden
            }
            Self::Busy | Self::Mail(_) => Class::Unavailable,
            Self::Attempts(error) => error.class(),
            Self::StoredHash | Self::Hash(_) | Self::Key(_) => Class::Internal,
            Self::Session(error) => error.class(),
            Self::Shard(error) => error.class(),
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Email => "email_invalid",
            Self::PasswordLength { .. } => "password_length",
            Self::Weak(weakness) => weakness.code(),
            Self::Name { .. } => "name_invalid",
            Self::EmailTaken => "email_taken",
            Self::Credentials => "credentials",
            Self::NotLoggedIn => "not_logged_in",
            Self::Unverified => "unverified",
            Self::Locked => "locked",
            Self::MailToken => "mail_token",
            Self::Changed => "changed",
            Self::ActsForUser => "acts_for_user",
            Self::NotFresh => "not_fresh",
            Self::Attempts(error) => error.code(),
            Self::Busy => "busy",
            _ => self.class().code(),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Busy | Self::Mail(_) => Some(Duration::from_secs(1)),
            Self::Attempts(error) => error.retry_after(),
            _ => None,
        }
    }
}
