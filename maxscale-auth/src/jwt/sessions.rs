//! Access tokens of sessions: who brings one is who its session says now.

use std::time::Duration;

use maxscale_core::keys::Secret;
use maxscale_core::refusal::{Class, Classify};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::claims::Claims;
use super::keeper::SigningKeys;
use super::store::KeyStoreError;
#[cfg(feature = "near")]
use super::verified::Verified;
use super::verify::{AccessTokens, IssueError, Refused};
use crate::error::AuthError;
use crate::principal::Principal;
use crate::session::{Consistency, RefreshError, SecretHash, Sessions, Told};
use crate::token::{AccessPrint, By, Fingerprint};

/// Issues access tokens to who has a session, and recognises who brings one. Cheap to
/// clone.
///
/// A token is verified by its key, and then its session is asked for as by a session's own
/// token: what is known of it is up to a second old where the handle
/// [remembers](crate::session::SessionsBuilder::near). So one whose session was revoked
/// counts here no longer than that. Others, who verify by the key set alone, take it until
/// it ends.
///
/// Where the sessions are remembered, so is that a token was verified, for as long as it
/// lives and its key is there: a signature is looked at once. That takes about 800 bytes of
/// the hub's [budget](maxscale_cache::HubBuilder::l1_budget) per token.
///
/// [`SessionLayer::with_tokens`](crate::SessionLayer::with_tokens) does so for requests.
#[derive(Clone, Debug)]
pub struct SessionTokens {
    sessions: Sessions,
    tokens: AccessTokens,
    keys: SigningKeys,
    #[cfg(feature = "near")]
    verified: Option<Verified>,
}

/// Tokens and keys that do not go together.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionTokensError {
    /// Keys are taken away before the tokens that they signed have ended.
    #[error("tokens live for {lives:?}, and their keys are rotated for {rotated:?}")]
    LivesTooLong {
        /// How long tokens live.
        lives: Duration,
        /// How long the rotation takes them to.
        rotated: Duration,
    },

    /// The keys are of another realm than the sessions.
    #[error("the keys of tokens are of another realm than the sessions")]
    Realm,
}

/// No token was issued, or nobody recognised by one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The text is no token. Clients are told that it is none, and not why.
    #[error("the access token is not valid")]
    Refused(#[source] Refused),

    /// The token's key is not known, and those that are were read so long ago that it may
    /// be one of ours.
    #[error("the keys of access tokens were not read for too long")]
    Stale,

    /// The session is over.
    #[error("the access token's session is over")]
    Over,

    /// Who was recognised by an access token, or an API key, gets no access token by it: who
    /// has stolen one has it for as long as it lives.
    #[error("an access token is issued to who has the session itself")]
    ByToken,

    /// What the token would say does not fit.
    #[error("cannot issue an access token")]
    Issue(#[from] IssueError),

    /// The keys could not be read.
    #[error(transparent)]
    Keys(#[from] KeyStoreError),

    /// The refresh token gave nothing.
    #[error(transparent)]
    Refresh(#[from] RefreshError),

    /// The session could not be asked for, or somebody acts in the user's name, who gets no
    /// tokens.
    #[error(transparent)]
    Auth(#[from] AuthError),
}

// === impl SessionTokens ===

impl SessionTokens {
    /// Tokens of `sessions`, in the form of `tokens`, signed by `keys`.
    ///
    /// # Errors
    ///
    /// Returns [`SessionTokensError`].
    pub fn new(
        sessions: Sessions,
        tokens: AccessTokens,
        keys: SigningKeys,
    ) -> Result<Self, SessionTokensError> {
        let (lives, rotated) = (tokens.life(), keys.rotation().life());
        if lives > rotated {
            return Err(SessionTokensError::LivesTooLong { lives, rotated });
        }
        if keys.realm() != sessions.realm() {
            return Err(SessionTokensError::Realm);
        }
        Ok(Self {
            #[cfg(feature = "near")]
            verified: Verified::beside(&sessions),
            sessions,
            tokens,
            keys,
        })
    }

    /// The sessions that they are of.
    pub const fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// How long tokens live, if their session does not end earlier.
    pub const fn life(&self) -> Duration {
        self.tokens.life()
    }

    /// A token of the principal's session, for him, with `email` as his address and the
    /// roles that he has now. It ends with the session, if that is earlier.
    ///
    /// # Errors
    ///
    /// Returns [`TokenError`]: [`AuthError::ActsForUser`] for who acts in a user's name, of
    /// which a token says nothing.
    pub async fn issue(&self, principal: &Principal, email: &str) -> Result<String, TokenError> {
        if principal.actor().is_some() {
            return Err(AuthError::ActsForUser.into());
        }
        if !principal.has_session_itself() {
            return Err(TokenError::ByToken);
        }
        let keys = self.keys.signing().await?;
        let (user, id) = (principal.user(), principal.session());
        let found = self.sessions.living(user, id).await?;
        let (session, standing) = found.ok_or(TokenError::Over)?;
        let now = self.sessions.now();
        let claims = Claims {
            user,
            email: email.to_owned(),
            roles: standing.roles,
            session: id,
            epoch: standing.changes,
            level: principal.level().min(session.level),
            authenticated_at: principal.authenticated_at(),
            token: Uuid::from_bytes(Secret::random().map_err(AuthError::Key)?),
            issued_at: now,
            expires_at: now.after(self.tokens.life()).min(session.ends_at),
        };
        Ok(self.tokens.issue(&claims, &keys)?)
    }

    /// Who brings the token, with the roles that he has now, and no surer than he was when
    /// it was issued. What is remembered of its session may be up to a second old, if the
    /// sessions [remember](crate::session::SessionsBuilder::near).
    ///
    /// # Errors
    ///
    /// Returns [`TokenError`].
    pub async fn recognise(&self, text: &str) -> Result<Principal, TokenError> {
        self.recognise_as(text, Consistency::Bounded).await
    }

    /// The same, as the store says now.
    ///
    /// # Errors
    ///
    /// Returns [`TokenError`].
    pub async fn recognise_strong(&self, text: &str) -> Result<Principal, TokenError> {
        self.recognise_as(text, Consistency::Strong).await
    }

    async fn recognise_as(
        &self,
        text: &str,
        consistency: Consistency,
    ) -> Result<Principal, TokenError> {
        let token = self.verify(text)?;
        let principal = self.sessions.recognise_verified(token, consistency).await?;
        principal.ok_or(TokenError::Over)
    }

    /// Whether it can be one: a session's own token has no dot.
    pub(crate) fn may_be(text: &str) -> bool {
        text.contains('.')
    }

    /// Who has what may be a token, as far as nobody has to be asked.
    pub(crate) fn know(&self, text: &str, consistency: Consistency) -> Told {
        match self.verify(text) {
            Ok(token) => {
                let known = self.sessions.know_verified(token, consistency);
                known.map_or_else(Told::Ask, Told::Known)
            }
            Err(error @ TokenError::Stale) => {
                tracing::debug!(%error, "cannot say whether an access token is one");
                Told::Unknown
            }
            Err(_) => Told::Nobody,
        }
    }

    /// Which token it is, whatever became of its session.
    fn verify(&self, text: &str) -> Result<Fingerprint, TokenError> {
        let now = self.sessions.now();
        if text.len() > AccessTokens::MAX_LEN {
            return Err(TokenError::Refused(Refused::Length));
        }
        let hash = SecretHash::new(Sha256::digest(text).into());
        #[cfg(feature = "near")]
        if let Some(verified) = &self.verified
            && let Some(token) = verified.get(&hash, now)
            && self.keys.have_signed(text)
        {
            return Ok(token);
        }
        let claims = match self.tokens.verify(text, &self.keys.keys(), now) {
            Ok(claims) => claims,
            Err(Refused::Key) if self.keys.is_stale() => return Err(TokenError::Stale),
            Err(refused) => return Err(TokenError::Refused(refused)),
        };
        let token = fingerprint(&claims, hash);
        #[cfg(feature = "near")]
        if let Some(verified) = &self.verified {
            verified.keep(&hash, &token);
        }
        Ok(token)
    }
}

fn fingerprint(claims: &Claims, hash: SecretHash) -> Fingerprint {
    Fingerprint {
        user: claims.user,
        session: claims.session,
        by: By::Access(AccessPrint {
            hash,
            level: claims.level,
            authenticated_at: claims.authenticated_at,
            until: claims.expires_at.after(AccessTokens::LEEWAY),
        }),
    }
}

// === impl TokenError ===

impl Classify for TokenError {
    fn class(&self) -> Class {
        match self {
            Self::Refused(_) | Self::Over => Class::Unauthenticated,
            Self::ByToken => Class::Forbidden,
            Self::Stale => Class::Unavailable,
            Self::Issue(_) => Class::Internal,
            Self::Keys(error) => error.class(),
            Self::Refresh(error) => error.class(),
            Self::Auth(error) => error.class(),
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Refused(_) | Self::Over => "access_token",
            Self::ByToken => "by_access_token",
            Self::Refresh(error) => error.code(),
            Self::Auth(error) => error.code(),
            _ => self.class().code(),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Stale => Some(Duration::from_secs(1)),
            Self::Refresh(error) => error.retry_after(),
            Self::Auth(error) => error.retry_after(),
            _ => None,
        }
    }
}
