//! Another password, by a mail or by the old one.

use std::time::Duration;

use maxscale_core::Chain;

use super::row::Opened;
use super::session::BY_PASSWORD;
use super::{Accounts, Client};
use crate::error::AuthError;
use crate::mail::{MailKind, MailToken, Purpose};
use crate::session::Which;

impl Accounts {
    /// For how long after a proof who has the session need not give the password again.
    pub const FRESH_FOR: Duration = Duration::from_secs(600);

    /// Sends a link that sets another password, if the address has an account that may
    /// be used. The answer is the same if it has none.
    ///
    /// # Errors
    ///
    /// Returns [`AuthError`]: bad input, too many mails, or a database that could not
    /// be asked.
    pub async fn forgot_password(&self, email: &str, client: &Client<'_>) -> Result<(), AuthError> {
        self.send_link(email, Purpose::ResetPassword, client).await
    }

    /// Sets another password by the token of a link. To be called for a POST only.
    ///
    /// All sessions and tokens of the account end, and none begins: who set the
    /// password logs in with it. It shows that the address is the user's.
    ///
    /// # Errors
    ///
    /// Returns [`AuthError::MailToken`], [`AuthError::PasswordLength`],
    /// [`AuthError::Locked`], [`AuthError::Attempts`], [`AuthError::Busy`], or a database
    /// that could not be asked.
    pub async fn reset_password(
        &self,
        token: &str,
        password: &str,
        client: &Client<'_>,
    ) -> Result<(), AuthError> {
        let token = (token, Purpose::ResetPassword);
        let reset = self.redeem(token, client, async |token| {
            // Asked first without a hash; and hashed before the account is held.
            let issued = self.peek(&token).await?;
            let password = self.taken(password, &issued.email, "")?;
            let hash = self.hash(password).await?;
            let mut opened = self.open_for(&token).await?;
            opened.account.password = Some(hash);
            let reset = self.reset_password_in(&mut opened, &token).await;
            self.finish(opened, reset).await
        });
        reset.await
    }

    async fn reset_password_in(
        &self,
        opened: &mut Opened,
        token: &MailToken,
    ) -> Result<(), AuthError> {
        self.take(opened, token).await?;
        opened.account.user.verified_at = Some(self.0.clock.now());
        self.replace_password(opened, Which::All).await?;
        self.notify_own(opened, MailKind::PasswordChanged).await
    }

    /// Sets another password in the session that the client brought, by `current`, or
    /// without it if the session's user proved who he is a moment ago
    /// ([`FRESH_FOR`](Self::FRESH_FOR)) and the account has no password.
    ///
    /// His other sessions end, as do all tokens; his own gets another secret, whose
    /// token's text this is. `None` if it was exchanged or ended meanwhile.
    ///
    /// # Errors
    ///
    /// Returns [`AuthError::Credentials`] for another password than the current one,
    /// [`AuthError::NotFresh`], [`AuthError::NotLoggedIn`], [`AuthError::ActsForUser`],
    /// [`AuthError::PasswordLength`], [`AuthError::Changed`] when something else changed
    /// the account meanwhile, [`AuthError::Attempts`], [`AuthError::Busy`], or a database
    /// that could not be asked.
    pub async fn change_password(
        &self,
        current: Option<&str>,
        new: &str,
        client: &Client<'_>,
    ) -> Result<Option<String>, AuthError> {
        let account = self.own_account(client).await?;
        if current.is_none() && account.password.is_some() {
            return Err(AuthError::NotFresh);
        }
        let user = &account.user;
        let new = self.taken(new, &user.email, &user.name)?;
        self.prove_again(&account, current, client).await?;
        let hash = self.hash(new).await?;
        let principal = client.session.ok_or(AuthError::NotLoggedIn)?;
        let mut opened = self.open_unchanged(&account).await?;
        opened.account.password = Some(hash);
        let changed = async {
            let others = Which::Others(principal.session());
            self.replace_password(&mut opened, others).await?;
            let kind = MailKind::PasswordChanged;
            self.notify_own(&mut opened, kind).await
        };
        let changed = changed.await;
        self.finish(opened, changed).await?;
        // The password is changed; an old secret of the user's own session is no harm.
        let rotated = self.0.sessions.rotate(principal, BY_PASSWORD).await;
        Ok(rotated.unwrap_or_else(|error| {
            tracing::warn!(error = %Chain(&error), "a session keeps its secret");
            None
        }))
    }

    async fn notify_own(&self, opened: &mut Opened, kind: MailKind) -> Result<(), AuthError> {
        let email = opened.account.user.email.clone();
        self.notify(opened, kind, &email).await
    }
}
