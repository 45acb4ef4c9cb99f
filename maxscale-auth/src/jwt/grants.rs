//! What programs get instead of a cookie: an access token, and a refresh token for the
//! next one.

use std::fmt;
use std::time::Duration;

use super::sessions::{SessionTokens, SessionTokensError, TokenError};
use crate::account::{Accounts, Client};
use crate::error::AuthError;
use crate::session::{RefreshError, RefreshTokens, Refreshed};

/// Gives programs their tokens. Cheap to clone.
#[derive(Clone, Debug)]
pub struct TokenGrants {
    accounts: Accounts,
    tokens: SessionTokens,
    refresh: RefreshTokens,
}

/// What a program was given.
#[derive(Clone)]
#[non_exhaustive]
pub struct Granted {
    /// The access token, for [`lives`](Self::lives).
    pub access: String,
    /// How long the access token lives.
    pub lives: Duration,
    /// The refresh token, by which the next of both are had.
    pub refresh: String,
}

// === impl TokenGrants ===

impl TokenGrants {
    /// Tokens for the users of `accounts`.
    ///
    /// # Errors
    ///
    /// Returns [`SessionTokensError::Realm`] if the three are not of one realm.
    pub fn new(
        accounts: Accounts,
        tokens: SessionTokens,
        refresh: RefreshTokens,
    ) -> Result<Self, SessionTokensError> {
        let realm = accounts.sessions().realm();
        if realm != tokens.sessions().realm() || realm != refresh.realm() {
            return Err(SessionTokensError::Realm);
        }
        Ok(Self {
            accounts,
            tokens,
            refresh,
        })
    }

    /// Gives the session that the client brought on to one that is kept by refresh tokens:
    /// what it was had by ends. See [`RefreshTokens::succeed`].
    ///
    /// # Errors
    ///
    /// Returns [`TokenError`]: [`AuthError::NotLoggedIn`], [`AuthError::ActsForUser`],
    /// [`RefreshError::Over`] for a session that is over and for who has not the session
    /// itself, or what could not be asked.
    pub async fn begin(&self, client: &Client<'_>) -> Result<Granted, TokenError> {
        let principal = client.session.ok_or(AuthError::NotLoggedIn)?;
        let begun = self.refresh.succeed(principal, client.agent).await?;
        self.granted(begun).await
    }

    /// Exchanges a refresh token, as [`RefreshTokens::refresh`] does, for the next one and an
    /// access token. Attempts with tokens of one session are counted by the client's address:
    /// those that give something count for nothing.
    ///
    /// # Errors
    ///
    /// Returns [`TokenError`].
    pub async fn refresh(&self, text: &str, client: &Client<'_>) -> Result<Granted, TokenError> {
        let session = self.refresh.session_of(text).ok_or(RefreshError::Foreign)?;
        let account = format!("refresh:{session}");
        let refreshed = Box::pin(self.refresh.refresh(text));
        let is_guess = |error: &RefreshError| !matches!(error, RefreshError::Auth(_));
        let at = (account.as_str(), client.address);
        let counted = self.accounts.attempt_at(at, refreshed, is_guess);
        self.granted(counted.await?).await
    }

    async fn granted(&self, refreshed: Refreshed) -> Result<Granted, TokenError> {
        let principal = &refreshed.principal;
        let user = self.accounts.user(principal.user()).await?;
        let user = user.ok_or(TokenError::Over)?;
        Ok(Granted {
            access: self.tokens.issue(principal, &user.email).await?,
            lives: self.tokens.life().min(principal.life_left()),
            refresh: refreshed.token,
        })
    }
}

impl fmt::Debug for Granted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Granted");
        shown.field("lives", &self.lives).finish_non_exhaustive()
    }
}
