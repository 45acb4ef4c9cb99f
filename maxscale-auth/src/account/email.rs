//! Another email address, and the way back.
//!
//! The new address is in the row of the token that was sent to it, and nowhere else: of
//! two changes that race each token confirms its own address. It is reserved when the
//! token comes back, not when it is sent, so that nobody keeps an address from its
//! owner by asking for it. The old address stays claimed by the account for as long as
//! the change can be taken back.

use maxscale_core::Chain;
use maxscale_shard::Claim;

use super::quiet::{Trail, Way};
use super::row::{Account, Opened};
use super::{Accounts, Client, former};
use crate::audit::Audited;
use crate::email::Email;
use crate::error::AuthError;
use crate::mail::rows::{self, Issued};
use crate::mail::{MailKind, MailToken, Purpose};
use crate::session::{Which, Why};

impl Accounts {
    /// Asks for another address: sends a link to it that makes it the account's. The
    /// answer is the same if it has an account; it gets another mail then.
    ///
    /// By `password`, or without it if the session that the client brought is fresh
    /// ([`FRESH_FOR`](Self::FRESH_FOR)).
    ///
    /// # Errors
    ///
    /// Returns [`AuthError`]: bad input, [`AuthError::EmailTaken`] for the address that
    /// the account has, [`AuthError::Credentials`],
    /// [`AuthError::NotFresh`], [`AuthError::NotLoggedIn`], [`AuthError::ActsForUser`],
    /// [`AuthError::Changed`], too many attempts or mails, [`AuthError::Busy`], or a
    /// database that could not be asked.
    pub async fn change_email(
        &self,
        email: &str,
        password: Option<&str>,
        client: &Client<'_>,
    ) -> Result<(), AuthError> {
        let email = Email::parse(email)?;
        let account = self.own_account(client).await?;
        if account.user.email == email.as_str() {
            return Err(AuthError::EmailTaken);
        }
        self.prove_again(&account, password, client).await?;
        self.count_mail(&email, client).await?;
        let trail = Trail::default();
        let asked = async {
            let owner = self.owner(&email).await?;
            let taken = owner.is_some_and(|owner| owner != account.user.id);
            trail.went(if taken { Way::Taken } else { Way::Free });
            let mut opened = self.open_unchanged(&account).await?;
            let sent = match taken {
                true => {
                    let kind = MailKind::AlreadyRegistered;
                    self.notify(&mut opened, kind, email.as_str()).await
                }
                false => {
                    let issued = Issued {
                        email: account.user.email.clone(),
                        payload: email.as_str().to_owned(),
                    };
                    let purpose = Purpose::ConfirmEmail;
                    self.issue(&mut opened, purpose, email.as_str(), &issued)
                        .await
                }
            };
            self.finish(opened, sent).await
        };
        self.quietly(&self.0.floors.link, &trail, asked).await
    }

    /// Makes the address that `token` was sent to the account's, in a session of its
    /// user. To be called for a POST only.
    ///
    /// His other sessions and all tokens end. The old address gets a mail with a link
    /// that takes the change back.
    ///
    /// # Errors
    ///
    /// Returns [`AuthError::MailToken`] also for another user's token,
    /// [`AuthError::EmailTaken`] when the address got an account meanwhile,
    /// [`AuthError::NotLoggedIn`], [`AuthError::ActsForUser`], [`AuthError::Locked`],
    /// [`AuthError::Attempts`], or a database that could not be asked.
    pub async fn confirm_email(&self, token: &str, client: &Client<'_>) -> Result<(), AuthError> {
        let account = self.own_account(client).await?;
        let token = (token, Purpose::ConfirmEmail);
        let confirmed = self.redeem(token, client, async |token| {
            if token.user != account.user.id {
                return Err(AuthError::MailToken);
            }
            let new = self.peek(&token).await?.payload;
            let claim = self.claim_of(&account, &new).await?;
            let confirmed = self.confirm_claimed(&token, &claim, client).await;
            match (&confirmed, &claim) {
                (Err(error), Some(claim)) => drop(self.let_go(claim, error).await),
                (Ok(()), Some(claim)) => {
                    // Its mark is there: whoever looks next for the address, or the
                    // reconciler, confirms it.
                    if let Err(error) = self.0.emails.confirm(claim).await {
                        tracing::debug!(error = %Chain(&error), "a new address is confirmed later");
                    }
                }
                _ => {}
            }
            confirmed
        });
        confirmed.await
    }

    /// A reservation of an address; none where the account has kept it.
    async fn claim_of(&self, account: &Account, new: &str) -> Result<Option<Claim>, AuthError> {
        let value = self.claimed(new);
        if self.0.emails.held(&value, account.user.id).await?.is_some() {
            return Ok(None);
        }
        Ok(Some(self.0.emails.reserve(&value, account.user.id).await?))
    }

    async fn confirm_claimed(
        &self,
        token: &MailToken,
        claim: &Option<Claim>,
        client: &Client<'_>,
    ) -> Result<(), AuthError> {
        let mut opened = self.open_for(token).await?;
        let confirmed = self
            .confirm_email_in(&mut opened, token, claim, client)
            .await;
        self.finish(opened, confirmed).await
    }

    async fn confirm_email_in(
        &self,
        opened: &mut Opened,
        token: &MailToken,
        claim: &Option<Claim>,
        client: &Client<'_>,
    ) -> Result<(), AuthError> {
        let new = self.take(opened, token).await?.payload;
        let own = client.session.ok_or(AuthError::NotLoggedIn)?.session();
        match claim {
            Some(claim) => self.0.emails.write_in(&mut opened.tx, claim).await?,
            // Kept until now; not if it was given up since it was looked for.
            None if !former::take(opened, &new).await? => return Err(AuthError::Changed),
            None => {}
        }
        let old = std::mem::replace(&mut opened.account.user.email, new);
        self.move_to(opened).await?;
        opened.told.push(Audited::EmailChanged);
        self.end_tokens(opened).await?;
        let until = self.0.clock.now().after(self.0.lifetimes.undo);
        former::keep(opened, self.0.rows.realm, &old, until).await?;
        let issued = Issued {
            email: old.clone(),
            payload: String::new(),
        };
        self.issue(opened, Purpose::UndoEmail, &old, &issued)
            .await?;
        self.end_in(opened, Which::Others(own), Why::EmailChanged)
            .await
    }

    /// Takes a change of the address back, by the token that the old address got. To be
    /// called for a POST only.
    ///
    /// The account has the old address again, no password, and no sessions, API keys or tokens:
    /// whoever changed the address may have known them. The old address gets a mail
    /// that sets a password. The new one is free at once.
    ///
    /// # Errors
    ///
    /// Returns [`AuthError::MailToken`], [`AuthError::Attempts`], or a database that could
    /// not be asked.
    pub async fn undo_email(&self, token: &str, client: &Client<'_>) -> Result<(), AuthError> {
        let token = (token, Purpose::UndoEmail);
        let undone = self.redeem(token, client, async |token| {
            let account = self.0.rows.load(token.user).await?;
            let account = account.ok_or(AuthError::MailToken)?;
            // Looked up before the account is held: it is another connection.
            let wrong = self.claimed(&account.user.email);
            let claim = self.0.emails.held(&wrong, token.user).await?;
            let mut opened = self.open_unchanged(&account).await?;
            let undone = self
                .undo_email_in(&mut opened, &token, claim.as_ref())
                .await;
            let undone = undone.map(|()| claim);
            self.finish(opened, undone).await
        });
        if let Some(claim) = undone.await? {
            self.give_up(&claim).await;
        }
        Ok(())
    }

    async fn undo_email_in(
        &self,
        opened: &mut Opened,
        token: &MailToken,
        wrong: Option<&Claim>,
    ) -> Result<(), AuthError> {
        let old = self.take(opened, token).await?.email;
        if !former::take(opened, &old).await? {
            return Err(AuthError::MailToken);
        }
        if let Some(wrong) = wrong {
            self.0.emails.release_in(&mut opened.tx, wrong).await?;
        }
        opened.account.user.email = old;
        opened.account.password = None;
        self.move_to(opened).await?;
        opened.told.push(Audited::EmailUndone);
        let user = opened.account.user.id;
        rows::end(&mut opened.tx, &opened.shard, user, None).await?;
        self.issue_own(opened, Purpose::ResetPassword, "").await?;
        self.end_keys(opened).await?;
        self.end_in(opened, Which::All, Why::EmailChanged).await
    }

    /// Stores the account with another address, which was shown to be the user's.
    async fn move_to(&self, opened: &mut Opened) -> Result<(), AuthError> {
        opened.account.user.verified_at = Some(self.0.clock.now());
        opened.account.version += 1;
        Ok(self.0.rows.save(opened).await?)
    }

    /// Frees an address whose release is committed.
    pub(super) async fn give_up(&self, claim: &Claim) {
        if let Err(error) = self.0.emails.release(claim).await {
            // Its mark is there, and the reconciler carries it through.
            tracing::debug!(error = %Chain(&error), "an address is freed later");
        }
    }
}
