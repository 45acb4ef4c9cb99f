//! What access tokens need of their sessions.

use maxscale_core::clock::Timestamp;
use maxscale_core::id::Id;

use super::record::{Session, Standing};
use super::sessions::{Consistency, Known, Sessions};
use crate::error::AuthError;
use crate::principal::Principal;
use crate::token::Fingerprint;

impl Sessions {
    /// The session, if it lives, and what its user's share, as the store says now.
    pub(crate) async fn living(
        &self,
        user: Id,
        session: Id,
    ) -> Result<Option<(Session, Standing)>, AuthError> {
        let found = self.0.store.load(user, session).await?;
        let now = self.now();
        Ok(found.filter(|(session, _)| session.is_live(now)))
    }

    /// Who has a token that was verified, if nobody has to be asked; otherwise the token.
    pub(crate) fn know_verified(
        &self,
        token: Fingerprint,
        consistency: Consistency,
    ) -> Result<Known, Fingerprint> {
        let known = match consistency {
            Consistency::Bounded => self.recall_if(token.user.as_uuid(), |it| *it == token),
            Consistency::Strong => None,
        };
        known.ok_or(token)
    }

    /// Who has a token that was verified; `None` if its session is over.
    pub(crate) async fn recognise_verified(
        &self,
        token: Fingerprint,
        consistency: Consistency,
    ) -> Result<Option<Principal>, AuthError> {
        match self.know_verified(token, consistency) {
            Ok(known) => Ok(Some(self.principal(known, Consistency::Bounded))),
            Err(token) => self.principal_of(&token).await,
        }
    }

    /// Values of `kind` that are remembered for `age` beside the sessions, if they are.
    #[cfg(feature = "near")]
    pub(crate) fn beside<V: Send + Sync + 'static>(
        &self,
        kind: &'static str,
        age: std::time::Duration,
    ) -> Option<maxscale_cache::Near<V>> {
        let near = self.0.near.as_ref()?;
        Some(near.beside(kind, age))
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.0.clock.now()
    }
}
