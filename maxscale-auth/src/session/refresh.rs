//! Sessions of API clients: each use of a refresh token gives the next one.
//!
//! ```text
//!  token ─ MAC (no I/O) ─ rows ─┬─ of this generation: exchanged for the next one, by compare-and-set
//!                               ├─ of the one before, a moment ago: the same next one again
//!                               └─ any other: two have it, and the session ends
//! ```
//!
//! A token's family is its session: one row, with the hash of its secret, that of the one
//! before, and a counter. So whatever ends the session ends all of its tokens, and there is
//! nothing to sweep.

mod decide;
mod succeed;
mod token;

use std::sync::Arc;
use std::time::Duration;

use maxscale_core::clock::Timestamp;
use maxscale_core::id::Id;
use maxscale_core::keys::KeyRing;
use maxscale_core::refusal::{Class, Classify};

use super::policy::Proof;
use super::recognised::Recognised;
use super::record::{Session, Standing};
use super::sessions::{Consistency, Known, Sessions};
use super::source::Source;
use super::sql::SqlSessions;
use super::store::{Rotation, SessionStore as _, Touch, Which, Why};
use crate::audit::Audited;
use crate::error::AuthError;
use crate::principal::Principal;
use crate::token::Fingerprint;
use decide::{Use, decide};
use token::RefreshToken;

/// Begins sessions that are kept by refresh tokens, and exchanges these. Cheap to clone.
#[derive(Clone, Debug)]
pub struct RefreshTokens {
    sessions: Sessions,
    rows: SqlSessions,
    ring: Arc<KeyRing>,
    idle: Duration,
    absolute: Duration,
}

/// What a refresh token was exchanged for.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Refreshed {
    /// The next token. The one before gives it again for
    /// [`grace`](super::SessionPolicy::grace), and is then a sign that two have it.
    pub token: String,
    /// Who has it.
    pub principal: Principal,
    /// What the user's changes counted, this exchange among them, unless there were others
    /// at the same moment: then less.
    pub epoch: u64,
}

/// A refresh token gave nothing. Clients are told the same of the first three.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RefreshError {
    /// It was not issued here.
    #[error("the refresh token is none of ours")]
    Foreign,

    /// Its session is over.
    #[error("the refresh token's session is over")]
    Over,

    /// It was used before, and not a moment ago: its session has ended now.
    #[error("the refresh token was used before")]
    Reused,

    /// It could not be exchanged; it may be tried again.
    #[error(transparent)]
    Auth(#[from] AuthError),
}

// === impl RefreshTokens ===

impl RefreshTokens {
    /// How long a session lasts by default if its token is not used.
    pub const DEFAULT_IDLE: Duration = Duration::from_secs(7 * 24 * 3_600);
    /// How long it lasts by default in any case.
    pub const DEFAULT_ABSOLUTE: Duration = Duration::from_secs(30 * 24 * 3_600);

    /// How often it is looked again after a race: who lost one knows by the next look.
    const LOOKS: u32 = 3;

    /// Refresh tokens of `sessions`, whose rows for good are `rows`: what is read of a token
    /// is never a copy. `ring` signs them.
    pub const fn new(sessions: Sessions, rows: SqlSessions, ring: Arc<KeyRing>) -> Self {
        Self {
            sessions,
            rows,
            ring,
            idle: Self::DEFAULT_IDLE,
            absolute: Self::DEFAULT_ABSOLUTE,
        }
    }

    /// Sets how long a session lasts if its token is not used, and in any case. Default:
    /// [`DEFAULT_IDLE`](Self::DEFAULT_IDLE), [`DEFAULT_ABSOLUTE`](Self::DEFAULT_ABSOLUTE).
    #[must_use]
    pub const fn lasts(mut self, idle: Duration, absolute: Duration) -> Self {
        (self.idle, self.absolute) = (idle, absolute);
        self
    }

    /// The realm whose sessions they are of.
    #[cfg(feature = "jwt")]
    pub(crate) fn realm(&self) -> crate::realm::Realm {
        self.sessions.realm()
    }

    /// The session of a token that was issued here, whatever became of it. Asks nobody.
    #[cfg(feature = "jwt")]
    pub(crate) fn session_of(&self, text: &str) -> Option<Id> {
        let token = RefreshToken::read(text, &self.ring, self.sessions.realm());
        token.map(|token| token.session)
    }

    /// Begins a session and gives its first refresh token.
    ///
    /// # Errors
    ///
    /// Returns [`AuthError`] as [`Sessions::begin`] does.
    pub async fn begin(&self, user: Id, proof: Proof, device: &str) -> Result<String, AuthError> {
        let (session, token) = self.draw(user, proof)?;
        let most = self.sessions.policy().per_user;
        self.sessions.store_new(&session, device, most).await?;
        let (level, methods) = (proof.level, proof.methods);
        (self.sessions).audit(&session, Audited::SessionBegun { level, methods });
        Ok(token.text(&self.ring))
    }

    /// A session of `user`, not stored yet, and its first token.
    fn draw(&self, user: Id, proof: Proof) -> Result<(Session, RefreshToken), AuthError> {
        let mut session = self.sessions.draw(user, proof)?.session;
        let token = RefreshToken::first(self.sessions.realm(), user, session.id)?;
        session.secret_hash = token.secret_hash();
        session.idle = self.idle;
        session.ends_at = session.created_at.after(self.absolute);
        Ok((session, token))
    }

    /// Exchanges a token for the next one. Used at the same moment or again within
    /// [`grace`](super::SessionPolicy::grace), as after an answer that was lost, it gives the
    /// same one; later, or if a next one was exchanged meanwhile, its session ends. When a
    /// session ends in any case never moves.
    ///
    /// # Cancellation
    ///
    /// Dropped half-way, the token may have been exchanged: use it again.
    ///
    /// # Errors
    ///
    /// Returns [`RefreshError`].
    pub async fn refresh(&self, text: &str) -> Result<Refreshed, RefreshError> {
        let token = RefreshToken::read(text, &self.ring, self.sessions.realm());
        let token = token.ok_or(RefreshError::Foreign)?;
        for _ in 0..Self::LOOKS {
            let found = self.rows.load(token.user, token.session).await;
            let (session, standing) = found.map_err(AuthError::Shard)?.ok_or(RefreshError::Over)?;
            let now = self.sessions.0.clock.now();
            match decide(&session, &token, now) {
                Use::Exchange => {
                    let next = token.next(&self.ring);
                    if self.exchange(&session, &next, now).await? {
                        return self.given(&session, &standing, &next, 1, now);
                    }
                }
                Use::Again => {
                    let next = (token.nexts(&self.ring))
                        .find(|it| it.secret_hash() == session.secret_hash)
                        .ok_or(RefreshError::Over)?;
                    return self.given(&session, &standing, &next, 0, now);
                }
                Use::Reused => {
                    let which = Which::One(session.id);
                    (self.sessions)
                        .revoke(session.user, which, Why::Compromised)
                        .await?;
                    return Err(RefreshError::Reused);
                }
                Use::Over => return Err(RefreshError::Over),
            }
        }
        Err(AuthError::Changed.into())
    }

    /// Whether the session has the secret of `next` now, and had the one before.
    async fn exchange(
        &self,
        session: &Session,
        next: &RefreshToken,
        now: Timestamp,
    ) -> Result<bool, AuthError> {
        let (user, id, store) = (session.user, session.id, &self.sessions.0.store);
        let touch = Touch {
            user,
            session: id,
            at: now,
        };
        // First, so that no exchange is there whose session ends as if it were not used.
        store.touch(&[touch]).await?;
        let rotation = Rotation {
            expected: session.version,
            secret_hash: next.secret_hash(),
            grace_until: now.after(self.sessions.policy().grace),
            level: session.level,
            methods: session.methods,
            authenticated_at: session.authenticated_at,
        };
        let rotated = store.rotate(user, id, &rotation).await;
        // Also if nobody knows what became of it.
        self.sessions.forget(user).await;
        Ok(rotated?)
    }

    /// The answer, by what was read before `exchanges` were made.
    fn given(
        &self,
        session: &Session,
        standing: &Standing,
        next: &RefreshToken,
        exchanges: u64,
        now: Timestamp,
    ) -> Result<Refreshed, RefreshError> {
        let token = Fingerprint::of_no_token(session.user, session.id, session.secret_hash);
        let what = Recognised::of(session, standing, &token, now).ok_or(RefreshError::Over)?;
        let (what, at) = (Arc::new(what), now);
        let source = Source::new(self.sessions.clone());
        Ok(Refreshed {
            token: next.text(&self.ring),
            principal: Principal::of(Known { what, at }, Consistency::Strong, &source),
            epoch: standing.changes + exchanges,
        })
    }
}

// === impl RefreshError ===

impl Classify for RefreshError {
    fn class(&self) -> Class {
        match self {
            Self::Foreign | Self::Over | Self::Reused => Class::Unauthenticated,
            Self::Auth(error) => error.class(),
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Foreign | Self::Over | Self::Reused => "refresh_token",
            Self::Auth(error) => error.code(),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Auth(error) => error.retry_after(),
            _ => None,
        }
    }
}
