use super::session::BY_PASSWORD;
use super::{Accounts, Client};
use crate::error::AuthError;

impl Accounts {
    /// Proves once more that it is the user who asks, and gives his session's new token;
    /// `None` if the session was exchanged meanwhile, and goes on with the other token.
    ///
    /// # Errors
    ///
    /// Returns [`AuthError`]: [`AuthError::NotLoggedIn`], [`AuthError::Credentials`],
    /// [`AuthError::Attempts`], [`AuthError::Busy`], or a database that could not be asked.
    pub async fn reauthenticate(
        &self,
        password: &str,
        client: &Client<'_>,
    ) -> Result<Option<String>, AuthError> {
        let account = self.own_account(client).await?;
        self.prove_again(&account, Some(password), client).await?;
        let principal = client.session.ok_or(AuthError::NotLoggedIn)?;
        self.0.sessions.rotate(principal, BY_PASSWORD).await
    }
}
