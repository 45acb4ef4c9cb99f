//! What flows tell the audit: what they did once it is committed, and what they refused
//! at once.

use maxscale_core::id::Id;
use maxscale_core::limit::AttemptError;

use super::Accounts;
use crate::audit::{Audited, Unproved};
use crate::error::AuthError;
use crate::mail::Purpose;
use crate::principal::Principal;
use crate::session::Sessions;

/// What a transaction has done so far, and with which session.
#[derive(Default)]
pub(super) struct Told(Vec<(Option<Id>, Audited)>);

// === impl Told ===

impl Told {
    pub(super) fn push(&mut self, what: Audited) {
        self.0.push((None, what));
    }

    pub(super) fn push_of(&mut self, session: Id, what: Audited) {
        self.0.push((Some(session), what));
    }

    /// Tells it of `user`. To be called after the commit.
    pub(super) fn tell(self, user: Id, sessions: &Sessions) {
        for (session, what) in self.0 {
            sessions.tell_of_own(user, session, what);
        }
    }
}

impl Accounts {
    /// Tells that a login was refused; whose, if there is an account.
    pub(super) fn not_logged_in(&self, user: Option<Id>, why: Unproved) {
        self.0.sessions.tell_of(user, Audited::NotProved { why });
    }

    /// The same of an error that says why.
    pub(super) fn not_logged_in_by(&self, user: Option<Id>, error: &AuthError) {
        if let Some(why) = Unproved::of(error) {
            self.not_logged_in(user, why);
        }
    }

    /// Tells that a session's user did not prove again who he is, if that is the error.
    pub(super) fn not_proved_by(&self, principal: &Principal, error: &AuthError) {
        if let Some(why) = Unproved::of(error) {
            let what = Audited::NotProved { why };
            self.0.sessions.tell(principal, what);
        }
    }

    /// Tells that a token did nothing, if that is the error; whose, if it is no forged one.
    pub(super) fn not_redeemed_by(&self, user: Option<Id>, purpose: Purpose, error: &AuthError) {
        if let Some(why) = Unproved::of(error) {
            let what = Audited::MailTokenRefused { purpose, why };
            self.0.sessions.tell_of(user, what);
        }
    }
}

// === impl Unproved ===

impl Unproved {
    /// Why, as far as an error tells it; none of bad input, and of what the service
    /// could not do.
    const fn of(error: &AuthError) -> Option<Self> {
        Some(match error {
            AuthError::Credentials => Self::WrongPassword,
            AuthError::MailToken => Self::Token,
            AuthError::Locked => Self::Locked,
            AuthError::Unverified => Self::Unverified,
            AuthError::Changed => Self::Changed,
            AuthError::EmailTaken => Self::EmailTaken,
            AuthError::Attempts(AttemptError::TooMany { .. }) => Self::TooMany,
            _ => return None,
        })
    }
}
