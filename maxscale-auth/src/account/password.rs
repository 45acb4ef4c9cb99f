//! The one place that hands passwords to the pool that hashes them.

use maxscale_core::Chain;
use maxscale_core::id::Id;

use super::Accounts;
use crate::error::AuthError;

/// How a hash begins that is made as hashes are made today.
const CURRENT: &str = "$argon2id$v=19$m=19456,t=2,p=1$";

impl Accounts {
    /// The hash of a new password.
    pub(super) async fn hash(&self, password: &str) -> Result<String, AuthError> {
        self.0.passwords.hash(password).await
    }

    /// Whether it is the password; where there is none, after the same work.
    pub(super) async fn is_password(
        &self,
        password: &str,
        stored: Option<&str>,
    ) -> Result<bool, AuthError> {
        match self.0.passwords.verify(password, stored).await {
            Err(AuthError::PasswordLength { .. }) => Ok(false),
            verified => verified,
        }
    }

    /// Hashes a password that was right anew if its hash is of an older kind. No answer
    /// waits for it, and a password that is changed meanwhile stays.
    pub(super) fn renew_hash(&self, user: Id, password: &str, stored: &str) {
        if stored.starts_with(CURRENT) {
            return;
        }
        let (rows, passwords) = (self.0.rows.clone(), self.0.passwords.clone());
        let (password, stored) = (password.to_owned(), stored.to_owned());
        self.0.background.spawn(async move {
            let renewed = async {
                let hash = passwords.hash(&password).await?;
                Ok::<_, AuthError>(rows.exchange_hash(user, (&stored, &hash)).await?)
            };
            if let Err(error) = renewed.await {
                tracing::debug!(%user, error = %Chain(&error), "an old hash stays for now");
            }
        });
    }
}
