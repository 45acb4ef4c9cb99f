use super::quiet::Trail;
use super::row::{Account, Opened};
use super::session::BY_PASSWORD;
use super::{Accounts, Client, LoggedIn, SignUps};
use crate::audit::Unproved;
use crate::email::Email;
use crate::error::AuthError;
use crate::session::{Drawn, Proof};

impl Accounts {
    /// Checks a password and begins a session; the one that the client brought ends.
    ///
    /// # Errors
    ///
    /// Returns [`AuthError::Credentials`] for an unknown email and for a wrong
    /// password alike, after the same work. Only after the right one
    /// [`AuthError::Locked`] or [`AuthError::Unverified`]; of a sign-up whose link was
    /// not redeemed no password is right. [`AuthError::Attempts`] after too many.
    pub async fn log_in(
        &self,
        email: &str,
        password: &str,
        client: &Client<'_>,
    ) -> Result<LoggedIn, AuthError> {
        let email = Email::parse(email).map_err(|_| AuthError::Credentials)?;
        let trail = Trail::default();
        let begun = self.attempt(&email, client, async {
            let account = self.prove(&email, password, &trail).await?;
            let user = account.user.clone();
            Ok((user, self.begin(&account, BY_PASSWORD, client).await?))
        });
        let quiet = self.quietly(&self.0.floors.log_in, &trail, begun);
        let begun = quiet.await.inspect_err(|error| {
            if let AuthError::Attempts(_) = error {
                // Nobody has looked whether there is an account.
                self.not_logged_in_by(None, error);
            }
        });
        let (user, drawn) = begun?;
        self.logged_in(user, &drawn, client).await
    }

    /// The account of an email whose password this is.
    async fn prove(
        &self,
        email: &Email,
        password: &str,
        trail: &Trail,
    ) -> Result<Account, AuthError> {
        let known = match self.owner(email).await? {
            Some(id) => self.0.rows.load(id).await?,
            None => None,
        };
        // The directory keeps an address for a while that was the account's before.
        let known = known.filter(|account| account.user.email == email.as_str());
        let stored = known.as_ref().and_then(|it| it.password.as_deref());
        let proved = self.prove_by(password, stored).await?;
        trail.went(proved.way);
        let user = known.as_ref().map(|account| account.user.id);
        let account = known.ok_or(Unproved::NoAccount);
        let account = account.and_then(|it| proved.unproved.map_or(Ok(it), Err));
        let account = account.map_err(|why| {
            self.not_logged_in(user, why);
            AuthError::Credentials
        })?;
        // Who has the password may know the rest.
        trail.tells();
        let may = self.may_log_in(&account);
        may.inspect_err(|error| self.not_logged_in_by(user, error))?;
        self.renew_hash(account.user.id, proved.upgrade);
        Ok(account)
    }

    fn may_log_in(&self, account: &Account) -> Result<(), AuthError> {
        account.is_open()?;
        let proved = account.is_verified() || self.0.sign_ups == SignUps::Open;
        proved.then_some(()).ok_or(AuthError::Unverified)
    }

    /// Begins a session of an account that was read before something took its time, if
    /// it is still as it was: a password that was changed meanwhile begins none.
    async fn begin(
        &self,
        seen: &Account,
        proof: Proof,
        client: &Client<'_>,
    ) -> Result<Drawn, AuthError> {
        let opened = self.0.rows.open(seen.user.id).await?;
        let mut opened = opened.ok_or(AuthError::Credentials)?;
        let begun = match opened.account.version == seen.version {
            true => self.begin_in(&mut opened, proof, client).await,
            false => {
                self.not_logged_in(Some(seen.user.id), Unproved::Changed);
                Err(AuthError::Credentials)
            }
        };
        self.finish(opened, begun).await
    }

    /// Makes sure that it is the user who asks: by the password, or by a session in
    /// which he proved it a moment ago.
    pub(super) async fn prove_again(
        &self,
        account: &Account,
        password: Option<&str>,
        client: &Client<'_>,
    ) -> Result<(), AuthError> {
        let principal = client.session.ok_or(AuthError::NotLoggedIn)?;
        let Some(password) = password else {
            let now = self.0.clock.now();
            let fresh = now.since(principal.authenticated_at()) <= Self::FRESH_FOR;
            return fresh.then_some(()).ok_or(AuthError::NotFresh);
        };
        let email = Email::parse(&account.user.email)?;
        let proved = self.attempt(&email, client, async {
            let stored = account.password.as_deref();
            let proved = self.prove_by(password, stored).await?;
            proved
                .is_right()
                .then_some(())
                .ok_or(AuthError::Credentials)
        });
        let proved = proved.await;
        proved.inspect_err(|error| self.not_proved_by(principal, error))
    }

    /// The account of the session that the client brought, for what only its user may do.
    pub(super) async fn own_account(&self, client: &Client<'_>) -> Result<Account, AuthError> {
        let principal = client.session.ok_or(AuthError::NotLoggedIn)?;
        if principal.actor().is_some() || principal.api_key().is_some() {
            return Err(AuthError::ActsForUser);
        }
        let account = self.0.rows.load(principal.user()).await?;
        let account = account.ok_or(AuthError::NotLoggedIn)?;
        account.is_open()?;
        Ok(account)
    }

    /// Opens an account that was read before something took its time, if it is still
    /// as it was.
    pub(super) async fn open_unchanged(&self, seen: &Account) -> Result<Opened, AuthError> {
        let opened = self.0.rows.open(seen.user.id).await?;
        let opened = opened.ok_or(AuthError::NotLoggedIn)?;
        if opened.account.version == seen.version {
            return Ok(opened);
        }
        opened.tx.rollback().await?;
        Err(AuthError::Changed)
    }
}
