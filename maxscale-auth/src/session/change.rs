//! Exchanges and ends sessions, and acts in a user's name.

use std::num::NonZeroU32;
use std::time::Duration;

use maxscale_core::id::Id;
use maxscale_core::refusal::{Class, Classify};

use super::policy::Proof;
use super::record::{Level, Methods, Roles};
use super::sessions::Sessions;
use super::store::{Listed, Reach, Revoked, Rotation, Which, Why};
use crate::audit::Audited;
use crate::error::AuthError;
use crate::guard::{Denied, Guard};
use crate::principal::Principal;
use crate::token::SessionToken;

/// Who may act in a user's name, and for how long.
#[derive(Clone, Debug)]
#[must_use]
pub struct Impersonation {
    guard: Guard,
    life: Duration,
}

/// Somebody did not get to act in a user's name.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImpersonateError {
    /// He may not.
    #[error(transparent)]
    Denied(#[from] Denied),

    /// The session could not be begun.
    #[error(transparent)]
    Auth(#[from] AuthError),
}

// === impl Impersonation ===

impl Impersonation {
    /// The longest that somebody acts in a user's name, and the default.
    pub const LONGEST: Duration = Duration::from_secs(30 * 60);

    /// Lets those do so whom `guard` lets through. Nobody does who acts in another's
    /// name already.
    pub fn by(guard: Guard) -> Self {
        let guard = guard.in_person();
        let life = Self::LONGEST;
        Self { guard, life }
    }

    /// Sets for how long, at most [`LONGEST`](Self::LONGEST).
    pub fn life(mut self, life: Duration) -> Self {
        self.life = life.min(Self::LONGEST);
        self
    }
}

impl Classify for ImpersonateError {
    fn class(&self) -> Class {
        match self {
            Self::Denied(denied) => denied.class(),
            Self::Auth(error) => error.class(),
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Denied(denied) => denied.code(),
            Self::Auth(error) => error.code(),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Denied(_) => None,
            Self::Auth(error) => error.retry_after(),
        }
    }
}

// === impl Sessions ===

impl Sessions {
    /// As [`begin`](Self::begin), in the place of the session that the login came with:
    /// that one ends first, whoever's it is, so that nobody who planted it, or has it,
    /// takes part in what follows.
    ///
    /// # Errors
    ///
    /// Returns [`AuthError`] when the store did not confirm. The old session may be over
    /// then, and no new one has a token.
    pub async fn begin_over(
        &self,
        old: Option<&Principal>,
        user: Id,
        proof: Proof,
        device: &str,
    ) -> Result<String, AuthError> {
        if let Some(old) = old {
            let which = Which::One(old.session());
            self.revoke(old.user(), which, Why::LoggedOut).await?;
        }
        self.begin(user, proof, device).await
    }

    /// Exchanges the secret of the principal's session after another proof, and
    /// gives the new token; `None` if the session is over or was exchanged meanwhile.
    ///
    /// The old token counts for [`grace`](super::SessionPolicy::grace) more, at its own
    /// level, and can itself not be exchanged. Where a copy could not be told of the
    /// exchange, other processes may go on with the old token, at its own level, until
    /// they were; [`changed`](Self::changed) tells again, and says how far it got. A
    /// session whose secret somebody else may have is [revoked](Self::revoke) instead.
    ///
    /// # Cancellation
    ///
    /// Dropped half-way, the secret may have been exchanged for one that nobody has: the
    /// session is then over once the grace is.
    ///
    /// # Errors
    ///
    /// Returns [`AuthError`] when the store did not confirm.
    pub async fn rotate(
        &self,
        principal: &Principal,
        proof: Proof,
    ) -> Result<Option<String>, AuthError> {
        let (user, id) = (principal.user(), principal.session());
        let token = SessionToken::issue(&self.0.keys, self.0.realm, user, id)?;
        let now = self.0.clock.now();
        let rotation = Rotation {
            expected: principal.version(),
            secret_hash: token.secret_hash(),
            grace_until: now.after(self.0.policy.grace),
            level: proof.level,
            methods: proof.methods,
            authenticated_at: now,
        };
        let rotated = self.0.store.rotate(user, id, &rotation).await;
        // Also if nobody knows what became of it.
        self.forget(user).await;
        if !rotated? {
            return Ok(None);
        }
        let (level, methods) = (proof.level, proof.methods);
        self.tell(principal, Audited::SessionRotated { level, methods });
        Ok(Some(token.text()))
    }

    /// Ends sessions of `user`.
    ///
    /// Once it has answered that it is [everywhere](Reach::Everywhere), no request with
    /// one of them is served by this process, and none by another for longer than a
    /// second ([`Consistency::Strong`](super::Consistency::Strong): for no time at all).
    ///
    /// # Cancellation
    ///
    /// Dropped half-way, it may have been done; this process then knows within a second.
    ///
    /// # Errors
    ///
    /// Returns [`AuthError::Session`] when the store did not confirm. It may be repeated.
    pub async fn revoke(&self, user: Id, which: Which, why: Why) -> Result<Revoked, AuthError> {
        let revoked = self.0.store.revoke(user, which, why).await;
        // Also if nobody knows what became of it.
        self.forget(user).await;
        let revoked = revoked?;
        let ended = revoked.ended.clone();
        self.tell_of(user, Audited::SessionsRevoked { ended, why });
        Ok(revoked)
    }

    /// The user's sessions that live, the newest first.
    ///
    /// # Errors
    ///
    /// Returns [`AuthError::Session`] when the store did not answer.
    pub async fn list(&self, user: Id) -> Result<Vec<Listed>, AuthError> {
        let now = self.0.clock.now();
        let mut listed = self.0.store.list(user).await?;
        listed.retain(|it| it.session.is_live(now));
        Ok(listed)
    }

    /// Gives the user other roles. His sessions have them within a second.
    ///
    /// # Errors
    ///
    /// Returns [`AuthError::Session`] when the store did not confirm. It may be repeated.
    pub async fn set_roles(&self, user: Id, roles: &Roles) -> Result<Reach, AuthError> {
        let reach = self.0.store.set_roles(user, roles).await;
        self.forget(user).await;
        let reach = reach?;
        self.tell_of(user, Audited::RolesChanged);
        Ok(reach)
    }

    /// Makes known that the user's sessions or roles were changed beside this handle,
    /// in a transaction on what keeps them for good. To be called after its commit.
    ///
    /// # Errors
    ///
    /// Returns [`AuthError::Session`] when the store did not answer. It may be repeated.
    pub async fn changed(&self, user: Id) -> Result<Reach, AuthError> {
        let reach = self.0.store.changed(user).await;
        self.forget(user).await;
        Ok(reach?)
    }

    /// Begins a session in which `by` acts in the name of `user`, and gives its token.
    ///
    /// It has one factor, no proof of the user's, and ends after the policy's time,
    /// used or not. Guards that ask for the user
    /// [in person](crate::Guard::in_person) or a [fresh](crate::Guard::fresh) proof refuse it.
    /// The audit is told who acted, with this and all that follows from it. The user's
    /// own sessions stay, however many he has; he sees this one among them.
    ///
    /// # Errors
    ///
    /// Returns [`ImpersonateError`]: he may not, or the store did not confirm.
    pub async fn impersonate(
        &self,
        by: &Principal,
        user: Id,
        policy: &Impersonation,
    ) -> Result<String, ImpersonateError> {
        if let Err(denied) = policy.guard.check(Some(by)) {
            let code = denied.code();
            self.tell(by, Audited::Refused { code });
            return Err(denied.into());
        }
        let proof = Proof {
            level: Level::Aal1,
            methods: Methods::default(),
        };
        let mut drawn = self.draw(user, proof)?;
        let session = &mut drawn.session;
        session.actor = Some(by.user());
        session.idle = policy.life;
        session.ends_at = session.created_at.after(policy.life);
        let most = self.0.policy.per_user;
        let one_more = NonZeroU32::MIN.saturating_add(most.get());
        self.store_new(session, "", one_more).await?;
        self.audit(&drawn.session, Audited::Impersonated);
        Ok(drawn.token.text())
    }
}
