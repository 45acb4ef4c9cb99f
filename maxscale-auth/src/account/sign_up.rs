//! How an account begins.
//!
//! A quiet sign-up answers the same for every address. What it leaves depends: nothing
//! but a mail for an address that has an account, else an account without a password
//! that no login opens, and a token. The hash of the password waits **with the token**:
//! of several who sign up with one address, who redeems his own token has the account,
//! with his own password. And he types that password again, so that a link is of no use
//! to who follows one that somebody else's sign-up had sent to him.

use std::time::Duration;

use maxscale_core::Chain;
use tokio::time::sleep;

use super::quiet::{Trail, Way};
use super::row::Opened;
use super::session::BY_PASSWORD;
use super::{Accounts, Client, LoggedIn, SignUps, SignedUp, checked_name};
use crate::audit::Audited;
use crate::email::Email;
use crate::error::AuthError;
use crate::mail::rows;
use crate::mail::{MailKind, MailToken, Purpose};
use crate::session::{Drawn, Which, Why};

/// Who signs up.
pub(super) struct Applicant<'a> {
    pub(super) email: Email,
    pub(super) name: String,
    /// Of his password.
    pub(super) hash: String,
    pub(super) client: &'a Client<'a>,
}

/// How often a quiet sign-up looks again at an address that is reserved, and the first
/// pause, which doubles.
const LOOKS: u32 = 6;
const PAUSE: Duration = Duration::from_millis(20);

impl Accounts {
    /// Signs up with an email address.
    ///
    /// Quietly ([`SignUps::Quiet`]): whatever the address, a mail is sent to it, and
    /// the account begins with [`confirm_sign_up`](Self::confirm_sign_up). Openly: there
    /// is an account now, logged in.
    ///
    /// # Cancellation
    ///
    /// Dropped or crashed half-way, no account exists for the email, and the
    /// email is free again once its reservation has run out.
    ///
    /// # Errors
    ///
    /// Returns [`AuthError`]: bad input, [`AuthError::Attempts`] after too many,
    /// [`AuthError::EmailTaken`] of open sign-ups, [`AuthError::Busy`], or a database
    /// that could not be asked.
    pub async fn sign_up(
        &self,
        email: &str,
        password: &str,
        name: &str,
        client: &Client<'_>,
    ) -> Result<SignedUp, AuthError> {
        let (email, name) = (Email::parse(email)?, checked_name(name)?);
        let password = self.taken(password, email.as_str(), &name)?;
        match self.0.sign_ups {
            SignUps::Quiet => {
                self.count_mail(&email, client).await?;
                let trail = Trail::default();
                let invited = async {
                    let hash = self.hash(password).await?;
                    let new = Applicant {
                        email,
                        name,
                        hash,
                        client,
                    };
                    self.invite(&new, &trail).await
                };
                let floor = &self.0.floors.sign_up;
                self.quietly(floor, &trail, invited).await?;
                Ok(SignedUp::Mailed)
            }
            SignUps::Open => {
                // Asked first without a hash: most refusals are old accounts.
                if self.owner(&email).await?.is_some() {
                    return Err(AuthError::EmailTaken);
                }
                // Hashed before the reservation, whose lease should not run meanwhile.
                let hash = self.hash(password).await?;
                let new = Applicant {
                    email,
                    name,
                    hash,
                    client,
                };
                let begun = self.sign_up_openly(&new).await?;
                Ok(SignedUp::LoggedIn(Box::new(begun)))
            }
        }
    }

    async fn sign_up_openly(&self, new: &Applicant<'_>) -> Result<LoggedIn, AuthError> {
        let settled = self.settle(new).await?;
        // After an error the account is there, and its mark with it: whoever looks next
        // for the email, or the reconciler, confirms it.
        self.0.emails.confirm(&settled.claim).await?;
        let drawn = settled
            .drawn
            .expect("an open account begins with a session");
        self.logged_in(settled.user, &drawn, new.client).await
    }

    /// Sends the mail that the address is to get.
    async fn invite(&self, new: &Applicant<'_>, trail: &Trail) -> Result<(), AuthError> {
        for look in 0..LOOKS {
            trail.went(Way::Free);
            if let Some(owner) = self.owner(&new.email).await? {
                if let Some(opened) = self.0.rows.open(owner).await? {
                    return self.invite_owner(opened, new, trail).await;
                }
                // It was never confirmed and is gone, and its address is being freed.
                let value = self.claimed(new.email.as_str());
                if !self.0.emails.finish_release(&value, owner).await? {
                    sleep(PAUSE * 2_u32.pow(look)).await;
                }
                continue;
            }
            match self.settle(new).await {
                Ok(settled) => {
                    if let Err(error) = self.0.emails.confirm(&settled.claim).await {
                        // As above; and the mail is on its way.
                        tracing::debug!(error = %Chain(&error), "a new account is confirmed later");
                    }
                    return Ok(());
                }
                // Somebody signs up with it at this moment.
                Err(AuthError::EmailTaken) => sleep(PAUSE * 2_u32.pow(look)).await,
                Err(error) => return Err(error),
            }
        }
        Err(AuthError::Busy)
    }

    async fn invite_owner(
        &self,
        mut opened: Opened,
        new: &Applicant<'_>,
        trail: &Trail,
    ) -> Result<(), AuthError> {
        if opened.account.user.email != new.email.as_str() {
            // Nobody is told that somebody had the address, and may have it again.
            return Ok(opened.tx.rollback().await?);
        }
        let sent = match opened.account.is_verified() {
            true => {
                trail.went(Way::Taken);
                let kind = MailKind::AlreadyRegistered;
                self.notify(&mut opened, kind, new.email.as_str()).await
            }
            false => {
                trail.went(Way::Unverified);
                let payload = new.payload();
                self.issue_own(&mut opened, Purpose::SignUp, &payload).await
            }
        };
        self.finish(opened, sent).await
    }

    /// Sends the link of the newest sign-up with this address once more, if one waits.
    /// The answer is the same if none does.
    ///
    /// # Errors
    ///
    /// Returns [`AuthError`]: bad input, too many mails, or a database that could not
    /// be asked.
    pub async fn resend_sign_up(&self, email: &str, client: &Client<'_>) -> Result<(), AuthError> {
        let email = Email::parse(email)?;
        self.count_mail(&email, client).await?;
        let trail = Trail::default();
        let resent = async {
            trail.went(Way::Free);
            let Some(mut opened) = self.open_by(&email).await? else {
                return Ok(());
            };
            trail.went(Way::Taken);
            let again = self.issue_again(&mut opened).await;
            self.finish(opened, again).await
        };
        self.quietly(&self.0.floors.link, &trail, resent).await
    }

    async fn issue_again(&self, opened: &mut Opened) -> Result<(), AuthError> {
        let (id, now) = (opened.account.user.id, self.0.clock.now());
        let newest = (id, Purpose::SignUp);
        let waits = rows::newest(&mut opened.tx, &opened.shard, newest, now).await?;
        match waits.filter(|_| !opened.account.is_verified()) {
            Some(waits) => {
                self.issue_own(opened, Purpose::SignUp, &waits.payload)
                    .await
            }
            None => Ok(()),
        }
    }

    /// Ends the sign-up that `token` was sent for, with the password that was chosen
    /// then: the address is verified, this is the account's password, all its other
    /// sessions, API keys and tokens end, and a session begins.
    ///
    /// # Errors
    ///
    /// Returns [`AuthError::MailToken`], [`AuthError::Credentials`] for another
    /// password, which takes nothing from the token, [`AuthError::Locked`],
    /// [`AuthError::Attempts`], [`AuthError::Busy`], or a database that could not be asked.
    pub async fn confirm_sign_up(
        &self,
        token: &str,
        password: &str,
        client: &Client<'_>,
    ) -> Result<LoggedIn, AuthError> {
        let token = (token, Purpose::SignUp);
        let confirmed = self.redeem(token, client, async |token| {
            let issued = self.peek(&token).await?;
            let (hash, name) = issued.payload.split_once('\n').unwrap_or_default();
            if !self.prove_by(password, Some(hash)).await?.is_right() {
                return Err(AuthError::Credentials);
            }
            let mut opened = self.open_for(&token).await?;
            opened.account.password = Some(hash.to_owned());
            opened.account.user.name = name.to_owned();
            let begun = self.confirm_sign_up_in(&mut opened, &token, client).await;
            let user = opened.account.user.clone();
            Ok((user, self.finish(opened, begun).await?))
        });
        let (user, drawn) = confirmed.await?;
        self.logged_in(user, &drawn, client).await
    }

    async fn confirm_sign_up_in(
        &self,
        opened: &mut Opened,
        token: &MailToken,
        client: &Client<'_>,
    ) -> Result<Drawn, AuthError> {
        self.take(opened, token).await?;
        opened.account.user.verified_at = Some(self.0.clock.now());
        self.replace_password(opened, Which::All).await?;
        self.end_keys(opened).await?;
        self.begin_in(opened, BY_PASSWORD, client).await
    }

    /// Stores the account with another password: what was allowed by the old one ends.
    pub(super) async fn replace_password(
        &self,
        opened: &mut Opened,
        ends: Which,
    ) -> Result<(), AuthError> {
        opened.account.version += 1;
        self.0.rows.save(opened).await?;
        opened.told.push(Audited::PasswordChanged);
        self.end_tokens(opened).await?;
        self.end_in(opened, ends, Why::PasswordChanged).await
    }
}

// === impl Applicant ===

impl Applicant<'_> {
    /// What waits with the token. Neither a hash nor a name has a line break.
    pub(super) fn payload(&self) -> String {
        format!("{}\n{}", self.hash, self.name)
    }
}
