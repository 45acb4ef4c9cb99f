//! Changes of an account by who has a session of it, in a transaction that holds both.

use maxscale_core::clock::Clock;
use maxscale_shard::{Router, Shard, Tx};

use super::Accounts;
use super::row::Opened;
use crate::api_key;
use crate::audit::Audited;
use crate::error::AuthError;
use crate::principal::Principal;

impl Accounts {
    pub(crate) fn router(&self) -> &Router {
        &self.0.rows.router
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// The principal's account, held, if it is open and his session still lives: what ends
    /// sessions holds the account too, and has come before, or comes after what is done now.
    pub(crate) async fn open_own(&self, principal: &Principal) -> Result<Opened, AuthError> {
        let user = principal.user();
        let opened = self.0.rows.open(user).await?;
        let mut opened = opened.ok_or(AuthError::NotLoggedIn)?;
        let may = async {
            opened.account.is_open()?;
            let (tx, session) = (&mut opened.tx, principal.session());
            let found = self.0.records.living_in(tx, user, session).await?;
            found.map(drop).ok_or(AuthError::NotLoggedIn)
        };
        match may.await {
            Ok(()) => Ok(opened),
            Err(error) => self.finish(opened, Err(error)).await,
        }
    }

    /// Ends the account's API keys: nobody knows who had it until now.
    pub(super) async fn end_keys(&self, opened: &mut Opened) -> Result<(), AuthError> {
        let (user, now) = (opened.account.user.id, self.0.clock.now());
        let keys = api_key::end_all(&mut opened.tx, &opened.shard, user, now).await?;
        if !keys.is_empty() {
            opened.told.push(Audited::ApiKeysRevoked { keys });
        }
        Ok(())
    }
}

// === impl Opened ===

impl Opened {
    /// Where the account lies.
    pub(crate) fn on(&mut self) -> (&mut Tx, &Shard) {
        (&mut self.tx, &self.shard)
    }

    /// Tells it once it is committed.
    pub(crate) fn tell(&mut self, what: Audited) {
        self.told.push(what);
    }
}
