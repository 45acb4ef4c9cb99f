//! What stands before every check of a secret, and before every mail.

use maxscale_core::Chain;

use super::client::Device;
use super::{Accounts, Client};
use crate::email::Email;
use crate::error::AuthError;
use crate::mail::{MailToken, Purpose};

impl Accounts {
    /// Reserves an attempt at the account of `email`, makes it, and says what came of it.
    pub(super) async fn attempt<T>(
        &self,
        email: &Email,
        client: &Client<'_>,
        work: impl Future<Output = Result<T, AuthError>>,
    ) -> Result<T, AuthError> {
        let client = client.name(email, &self.0.keys);
        self.attempt_as(email.as_str(), &client, work).await
    }

    /// The same for the token of a mail, of which a forged one costs no I/O.
    pub(super) async fn redeem<T, W>(
        &self,
        (text, purpose): (&str, Purpose),
        client: &Client<'_>,
        work: impl FnOnce(MailToken) -> W,
    ) -> Result<T, AuthError>
    where
        W: Future<Output = Result<T, AuthError>>,
    {
        let token = self.parse(text).filter(|it| it.purpose == purpose);
        let user = token.as_ref().map(|it| it.user);
        let done = async {
            let token = token.ok_or(AuthError::MailToken)?;
            let account = format!("mail:{}", token.user);
            // Held across each await of all flows, it would be most of their size.
            let work = Box::pin(work(token));
            self.attempt_as(&account, client.address, work).await
        };
        let done = done.await;
        done.inspect_err(|error| self.not_redeemed_by(user, purpose, error))
    }

    async fn attempt_as<T>(
        &self,
        account: &str,
        client: &str,
        work: impl Future<Output = Result<T, AuthError>>,
    ) -> Result<T, AuthError> {
        let is_guess =
            |error: &AuthError| matches!(error, AuthError::Credentials | AuthError::MailToken);
        self.attempt_at((account, client), work, is_guess).await
    }

    /// Reserves an attempt by a client at what is named so, makes it, and counts it if what
    /// came of it is a guess.
    pub(crate) async fn attempt_at<T, E: From<AuthError>>(
        &self,
        (account, client): (&str, &str),
        work: impl Future<Output = Result<T, E>>,
        is_guess: impl FnOnce(&E) -> bool,
    ) -> Result<T, E> {
        let attempt = self.0.attempts.begin(account, client).await;
        let attempt = attempt.map_err(AuthError::from)?;
        let done = work.await;
        match &done {
            Ok(_) => attempt.succeeded().await,
            Err(error) if is_guess(error) => drop(attempt.failed().await),
            Err(_) => attempt.withdrawn().await,
        }
        done
    }

    /// Makes a device known to the attempts at an account, after a login from it.
    pub(super) async fn know(&self, email: &Email, device: Device) -> Device {
        let name = device.name();
        match self.0.attempts.begin(email.as_str(), &name).await {
            Ok(attempt) => attempt.succeeded().await,
            // Strangers have used up what there is, or nobody can say. It is a stranger
            // until its next login.
            Err(error) => tracing::debug!(error = %Chain(&error), "a device is not known yet"),
        }
        device
    }

    /// Counts a mail to `email` that `client` asks for, whether one is sent or not.
    pub(super) async fn count_mail(
        &self,
        email: &Email,
        client: &Client<'_>,
    ) -> Result<(), AuthError> {
        let client = client.name(email, &self.0.keys);
        let asked = self.0.mails.begin(email.as_str(), &client).await?;
        asked.failed().await;
        Ok(())
    }
}
