//! What access tokens and API keys need of their user's sessions.

use std::sync::Arc;

use maxscale_core::clock::Timestamp;
#[cfg(feature = "jwt")]
use maxscale_core::id::Id;
use maxscale_core::id::IdGenerator;

use super::recognised::Recognised;
#[cfg(feature = "jwt")]
use super::record::{Session, Standing};
use super::sessions::{Consistency, Known, Sessions};
use crate::error::AuthError;
#[cfg(feature = "jwt")]
use crate::principal::Principal;
use crate::token::Fingerprint;

impl Sessions {
    /// The session, if it lives, and what its user's share, as the store says now.
    #[cfg(feature = "jwt")]
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
    #[cfg(feature = "jwt")]
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
    #[cfg(all(feature = "jwt", feature = "near"))]
    pub(crate) fn beside<V: Send + Sync + 'static>(
        &self,
        kind: &'static str,
        age: std::time::Duration,
    ) -> Option<maxscale_cache::Near<V>> {
        let near = self.0.near.as_ref()?;
        Some(near.beside(kind, age))
    }

    /// Who has a token that is no session's, as `asked` says, which has not begun: it is
    /// remembered as what the user's sessions are, and forgotten with them.
    pub(crate) async fn find_by(
        &self,
        token: &Fingerprint,
        asked: impl Future<Output = Result<Option<Recognised>, AuthError>>,
    ) -> Result<Option<Known>, AuthError> {
        let near = self.0.near.as_ref();
        let near = near.map(|near| (near, near.begin(token.user)));
        let found = asked.await?;
        let at = self.now();
        let known = found.filter(|it| it.is_live(at)).map(Arc::new);
        if let Some((near, begun)) = near {
            // It has no other tokens that could be judged by the same answer.
            near.learn(&begun, token, known.clone(), |_| None);
        }
        Ok(known.map(|what| Known { what, at }))
    }

    /// Draws ids for what belongs to users.
    pub(crate) fn ids(&self) -> &IdGenerator {
        &self.0.ids
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.0.clock.now()
    }
}
