//! From a session of a browser to one of refresh tokens.

use maxscale_core::Chain;

use super::super::sql::Succeeded;
use super::super::store::{Created, NewSession, Why};
use super::{RefreshError, RefreshTokens, Refreshed};
use crate::audit::Audited;
use crate::error::AuthError;
use crate::principal::Principal;
use crate::session::{Proof, StoreError};

impl RefreshTokens {
    /// Goes on with the principal's session as one that is kept by refresh tokens, and gives
    /// its first. The other one ends, in the same transaction: what it was kept by, a cookie
    /// for instance, counts for nothing any more, and of many that do so at once one gets
    /// the session.
    ///
    /// How sure it is that it is the user, and when he proved it, stay what they were. It
    /// ends no later than the one before would have.
    ///
    /// # Cancellation
    ///
    /// Dropped half-way, the session may be over, with nobody who has the next one.
    ///
    /// # Errors
    ///
    /// Returns [`RefreshError::Over`] if the principal's session is, or if its secret was
    /// exchanged since or is not what he was recognised by; and
    /// [`AuthError::ActsForUser`] for who acts in a user's name.
    pub async fn succeed(
        &self,
        principal: &Principal,
        device: &str,
    ) -> Result<Refreshed, RefreshError> {
        if principal.actor().is_some() {
            return Err(AuthError::ActsForUser.into());
        }
        let (level, methods) = (principal.level(), principal.methods());
        let (mut session, token) = self.draw(principal.user(), Proof { level, methods })?;
        session.authenticated_at = principal.authenticated_at();
        session.ends_at = session.ends_at.min(principal.ends_at());
        let new = NewSession {
            session: &session,
            device,
        };
        let old = (principal.session(), principal.version());
        let most = self.sessions.policy().per_user;
        let done = self.rows.succeed(old, &new, most).await;
        // Also if nobody knows what became of it. What was committed is final, and every
        // process finds that it has not been told.
        if let Err(error) = self.sessions.changed(session.user).await {
            tracing::warn!(error = %Chain(&error), "a change of sessions is told later");
        }
        let (standing, ended) = match done.map_err(AuthError::Shard)? {
            Succeeded::By(standing, Created::Stored { ended }) => (standing, ended),
            Succeeded::By(_, Created::Exists) => {
                return Err(AuthError::Session(StoreError::exists()).into());
            }
            Succeeded::Over => return Err(RefreshError::Over),
        };
        for (ended, why) in [(vec![old.0], Why::LoggedOut), (ended, Why::TooMany)] {
            if !ended.is_empty() {
                let what = Audited::SessionsRevoked { ended, why };
                self.sessions.audit(&session, what);
            }
        }
        let what = Audited::SessionBegun { level, methods };
        self.sessions.audit(&session, what);
        let now = session.created_at;
        // The end of the one and the beginning of the other.
        self.given(&session, &standing, &token, 2, now)
    }
}
