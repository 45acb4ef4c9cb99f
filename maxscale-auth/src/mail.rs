//! What is said to users by mail, and how it leaves the service.
//!
//! ```text
//!  flow ── Mail ──> Outbox (in the flow's transaction) ── after its commit ──> Mailer
//! ```
//!
//! It knows no words: what a mail of each [`MailKind`] says is the mailer's to choose.

mod after_commit;
mod erased;
#[cfg(feature = "lettre")]
mod file;
#[cfg(feature = "lettre")]
mod letter;
mod link;
#[cfg(feature = "lettre")]
mod mailer_error;
#[cfg(feature = "lettre")]
mod message;
pub(crate) mod rows;
#[cfg(feature = "smtp")]
mod smtp;
mod token;

use std::fmt;
use std::future::Future;

use maxscale_core::clock::Timestamp;
use maxscale_shard::Tx;

pub use after_commit::{AfterCommit, OutboxFull};
pub(crate) use erased::DynOutbox;
#[cfg(feature = "lettre")]
pub use file::FileMailer;
#[cfg(feature = "lettre")]
pub use letter::{Letter, english};
pub use link::LinkPaths;
pub(crate) use link::Links;
#[cfg(feature = "lettre")]
pub use mailer_error::MailerError;
#[cfg(feature = "smtp")]
pub use smtp::{SmtpMailer, SmtpMailerBuilder};
pub(crate) use token::MailToken;
pub use token::{Lifetimes, Purpose};

/// A mail to a user.
///
/// Its link is a secret, and [`Debug`](fmt::Debug) does not show it. An outbox that
/// stores mails seals them.
#[derive(Clone, PartialEq, Eq)]
pub struct Mail {
    kind: MailKind,
    to: String,
    link: String,
    expires_at: Option<Timestamp>,
}

/// What a mail is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MailKind {
    /// The link ends a sign-up with this address. Who did not sign up ignores it.
    ConfirmSignUp,
    /// Somebody signed up with this address, which has an account. The link leads to
    /// where a password that was forgotten is asked for.
    AlreadyRegistered,
    /// The link sets another password.
    ResetPassword,
    /// The link logs in.
    LogIn,
    /// The link makes this the account's address.
    ConfirmEmail,
    /// The account has another address now; the link makes this one its address again.
    EmailChanged,
    /// The account has another password now. The link leads to where a password that
    /// was forgotten is asked for.
    PasswordChanged,
}

/// Takes a mail in the transaction that it belongs to, so that both are there or
/// neither: a job that sends it is enqueued in `tx`.
///
/// [`AfterCommit`] stores nothing and sends it when the transaction is committed.
pub trait Outbox: Send + Sync + 'static {
    /// Why a mail was not taken.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Takes `mail`. The transaction is on the user's shard and not committed yet;
    /// after an error it is rolled back.
    fn put(&self, tx: &mut Tx, mail: Mail) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

/// Sends mails.
pub trait Mailer: Send + Sync + 'static {
    /// Why a mail was not sent. It is logged; it should not hold the mail's link.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Sends `mail`, or hands it to a server that will.
    fn send(&self, mail: &Mail) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

// === impl Mail ===

impl Mail {
    /// A mail of these parts: for the tests of a mailer or an outbox, and for one that
    /// was stored and is to be sent.
    pub const fn new(
        kind: MailKind,
        to: String,
        link: String,
        expires_at: Option<Timestamp>,
    ) -> Self {
        Self {
            kind,
            to,
            link,
            expires_at,
        }
    }

    /// What it is about.
    pub const fn kind(&self) -> MailKind {
        self.kind
    }

    /// The address that it goes to, normalised.
    pub fn to(&self) -> &str {
        &self.to
    }

    /// The link that it is sent for, under the configured base URL.
    pub fn link(&self) -> &str {
        &self.link
    }

    /// Until when the link is good for something, unless it is a mere address.
    pub const fn expires_at(&self) -> Option<Timestamp> {
        self.expires_at
    }
}

impl fmt::Debug for Mail {
    /// Without the address and the link.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mail")
            .field("kind", &self.kind)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

// === impl MailKind ===

impl MailKind {
    const ALL: [Self; 7] = [
        Self::ConfirmSignUp,
        Self::AlreadyRegistered,
        Self::ResetPassword,
        Self::LogIn,
        Self::ConfirmEmail,
        Self::EmailChanged,
        Self::PasswordChanged,
    ];

    /// The kind that [`as_str`](Self::as_str) calls so, for a mail that was stored.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// Its name, for a template, a metric, a log, or where a mail is stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ConfirmSignUp => "confirm_sign_up",
            Self::AlreadyRegistered => "already_registered",
            Self::ResetPassword => "reset_password",
            Self::LogIn => "log_in",
            Self::ConfirmEmail => "confirm_email",
            Self::EmailChanged => "email_changed",
            Self::PasswordChanged => "password_changed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kind_is_read_by_its_name() {
        for kind in MailKind::ALL {
            assert_eq!(MailKind::parse(kind.as_str()), Some(kind));
        }
        assert_eq!(MailKind::parse("Log_in"), None);
    }
}
