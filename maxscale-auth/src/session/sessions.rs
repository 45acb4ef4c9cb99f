//! Begins, recognises and ends sessions, whatever store keeps them.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use maxscale_core::Chain;
use maxscale_core::clock::Clock;
use maxscale_core::id::{Id, IdGenerator};
use maxscale_core::keys::KeyRing;

use super::erased::{DynStore, StoreError};
use super::record::{Level, Methods, Session};
use super::store::{
    Created, Listed, NewSession, Reach, Revoked, Rotation, SessionStore, Touch, Which, Why,
};
use crate::error::AuthError;
use crate::principal::Principal;
use crate::realm::Realm;
use crate::token::SessionToken;

/// How stale the time of a session's last request may be: one write per session and
/// hour, not per request.
pub const TOUCH_EVERY: Duration = Duration::from_secs(3600);

/// The sessions of a service. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Sessions(Arc<Inner>);

/// How long sessions last, and how many one user may have.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct SessionPolicy {
    /// How long a session lasts without a request. Default: 30 days.
    pub idle: Duration,
    /// How long a session lasts at most. Default: 90 days.
    pub absolute: Duration,
    /// How long the old secret counts after an exchange. Default: 10 s.
    pub grace: Duration,
    /// The sessions that one user may have; a further one ends the one that was
    /// active longest ago. Default: 50, at most 100.
    pub per_user: NonZeroU32,
}

/// How somebody proved who he is.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "all that a session keeps of it")]
pub struct Proof {
    /// How strong the proof is.
    pub level: Level,
    /// By what it was made.
    pub methods: Methods,
}

/// A session that was drawn and is to be stored.
#[derive(Debug)]
pub(crate) struct Drawn {
    pub(crate) session: Session,
    pub(crate) token: SessionToken,
}

#[derive(Debug)]
struct Inner {
    store: Box<dyn DynStore>,
    keys: Arc<KeyRing>,
    ids: Arc<IdGenerator>,
    realm: Realm,
    policy: SessionPolicy,
    clock: Clock,
}

/// What [`Sessions`] needs; see [`Sessions::builder`].
#[derive(Debug)]
#[must_use]
pub struct SessionsBuilder(Inner);

// === impl SessionPolicy ===

impl Default for SessionPolicy {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(24 * 3600);
        Self {
            idle: 30 * DAY,
            absolute: 90 * DAY,
            grace: Duration::from_secs(10),
            per_user: NonZeroU32::new(50).expect("not zero"),
        }
    }
}

// === impl SessionsBuilder ===

impl SessionsBuilder {
    /// Sets the realm. Default: [`Realm::MAIN`].
    pub fn realm(mut self, realm: Realm) -> Self {
        self.0.realm = realm;
        self
    }

    /// Sets how long sessions last. Default: [`SessionPolicy::default`].
    pub fn policy(mut self, policy: SessionPolicy) -> Self {
        self.0.policy = policy;
        self
    }

    /// Sets the clock. Default: the system's.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.0.clock = clock;
        self
    }

    /// Finishes the handle.
    pub fn build(self) -> Sessions {
        Sessions(Arc::new(self.0))
    }
}

// === impl Sessions ===

impl Sessions {
    /// Starts a handle to the sessions in `store`.
    pub fn builder(
        store: impl SessionStore,
        keys: Arc<KeyRing>,
        ids: Arc<IdGenerator>,
    ) -> SessionsBuilder {
        SessionsBuilder(Inner {
            store: Box::new(store),
            keys,
            ids,
            realm: Realm::MAIN,
            policy: SessionPolicy::default(),
            clock: Clock::system(),
        })
    }

    /// Begins a session and gives its token's text.
    ///
    /// # Errors
    ///
    /// Returns [`AuthError`] when the store did not confirm: there may be a session
    /// then that nobody has a token of.
    pub async fn begin(&self, user: Id, proof: Proof, device: &str) -> Result<String, AuthError> {
        let drawn = self.draw(user, proof)?;
        let new = NewSession {
            session: &drawn.session,
            device,
        };
        match self.0.store.create(&new, self.0.policy.per_user).await? {
            Created::Stored { .. } => Ok(self.text(&drawn.token)),
            Created::Exists => Err(AuthError::Session(StoreError::exists())),
        }
    }

    /// A session for `user` with a secret of its own, not stored yet.
    pub(crate) fn draw(&self, user: Id, proof: Proof) -> Result<Drawn, AuthError> {
        let policy = &self.0.policy;
        let id = self.0.ids.draw(user.shard());
        let token = SessionToken::issue(self.0.realm, user, id)?;
        let now = self.0.clock.now();
        let session = Session {
            user,
            id,
            secret_hash: token.secret_hash(),
            created_at: now,
            last_active: now,
            authenticated_at: now,
            idle: policy.idle,
            ends_at: now.after(policy.absolute),
            level: proof.level,
            methods: proof.methods,
            version: 1,
            previous: None,
            actor: None,
        };
        Ok(Drawn { session, token })
    }

    pub(crate) fn text(&self, token: &SessionToken) -> String {
        token.text(&self.0.keys)
    }

    /// How long sessions last, and how many one user may have.
    pub fn policy(&self) -> &SessionPolicy {
        &self.0.policy
    }

    /// The realm that they are of.
    pub fn realm(&self) -> Realm {
        self.0.realm
    }

    /// Reads a token's text without any I/O; `None` for what was not issued here.
    pub fn read(&self, text: &str) -> Option<SessionToken> {
        SessionToken::parse(text, &self.0.keys).filter(|it| it.realm() == self.0.realm)
    }

    /// Who has the token; `None` if its session is over.
    ///
    /// # Errors
    ///
    /// Returns [`AuthError::Session`] when the store did not answer: nobody knows then.
    pub async fn recognise(&self, token: &SessionToken) -> Result<Option<Principal>, AuthError> {
        let now = self.0.clock.now();
        let found = self.0.store.load(token.user, token.session).await?;
        let Some((session, standing)) = found else {
            return Ok(None);
        };
        let Some(level) = session.level_of(&token.secret_hash(), now) else {
            return Ok(None);
        };
        if now.since(session.last_active) >= TOUCH_EVERY {
            let touch = Touch {
                user: token.user,
                session: token.session,
                at: now,
            };
            // The session is valid either way, and the next request tries again.
            if let Err(error) = self.0.store.touch(&[touch]).await {
                tracing::warn!(error = %Chain(&error), "cannot note a session's last request");
            }
        }
        Ok(Some(Principal::new(&session, &standing, level)))
    }

    /// Exchanges the secret of the principal's session after another proof, and
    /// gives the new token; `None` if the session is over or was exchanged meanwhile.
    /// The old token counts for [`SessionPolicy::grace`] more, at its own level.
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
        let token = SessionToken::issue(self.0.realm, user, id)?;
        let now = self.0.clock.now();
        let rotation = Rotation {
            expected: principal.version(),
            secret_hash: token.secret_hash(),
            grace_until: now.after(self.0.policy.grace),
            level: proof.level,
            methods: proof.methods,
            authenticated_at: now,
        };
        let rotated = self.0.store.rotate(user, id, &rotation).await?;
        Ok(rotated.then(|| self.text(&token)))
    }

    /// Ends sessions of `user`.
    ///
    /// # Errors
    ///
    /// Returns [`AuthError::Session`] when the store did not confirm. It may be repeated.
    pub async fn revoke(&self, user: Id, which: Which, why: Why) -> Result<Revoked, AuthError> {
        Ok(self.0.store.revoke(user, which, why).await?)
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

    /// Makes known that the user's sessions or roles were changed beside this handle,
    /// in a transaction on what keeps them for good. To be called after its commit.
    ///
    /// # Errors
    ///
    /// Returns [`AuthError::Session`] when the store did not answer. It may be repeated.
    pub async fn changed(&self, user: Id) -> Result<Reach, AuthError> {
        Ok(self.0.store.changed(user).await?)
    }
}
