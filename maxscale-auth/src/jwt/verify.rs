//! Texts from claims, and claims from texts.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use maxscale_core::clock::Timestamp;

use super::claims::{Claims, Wire};
use super::keys::Keys;

/// Who issues tokens, for whom, and for how long.
#[derive(Clone, Debug)]
pub struct AccessTokens {
    issuer: Arc<str>,
    audience: Arc<str>,
    life: Duration,
}

/// An issuer or an audience that no token may have.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AccessTokensError {
    /// The text is empty, or longer than [`AccessTokens::MAX_NAME`] bytes.
    #[error("the {0} of tokens must have 1 to {max} bytes", max = AccessTokens::MAX_NAME)]
    Name(&'static str),
    /// Less than a second, or more than [`AccessTokens::MAX_LIFE`].
    #[error("a token must live between a second and an hour, and not {0:?}")]
    Life(Duration),
}

/// A token could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IssueError {
    /// It would live longer than [`AccessTokens::life`], or not at all.
    #[error("a token's life must be what was agreed")]
    Life,
    /// It would be longer than [`AccessTokens::MAX_LEN`].
    #[error("a token of {0} bytes is too long")]
    Length(usize),
}

/// Why a token is none. It is for logs and tests: a client is told that it is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// It is longer than any of ours.
    #[error("the token is too long")]
    Length,
    /// It has not three parts, or they are no base64url.
    #[error("the token is malformed")]
    Form,
    /// No key of ours writes its header. It may be one that this process does not know yet.
    #[error("the token is of no key that is known")]
    Key,
    /// The key did not sign this.
    #[error("the token's signature is wrong")]
    Signature,
    /// A claim is missing, there twice, or of another type or range.
    #[error("the token's claims are malformed")]
    Claims,
    /// Somebody else issued it.
    #[error("the token is of another issuer")]
    Issuer,
    /// It is for somebody else.
    #[error("the token is for another audience")]
    Audience,
    /// It is of the future.
    #[error("the token is not valid yet")]
    Early,
    /// Its time is over.
    #[error("the token is no longer valid")]
    Expired,
    /// It would live longer than tokens do.
    #[error("the token lives too long")]
    Life,
}

// === impl AccessTokens ===

impl AccessTokens {
    /// The longest token in bytes: what is longer is not looked at.
    pub const MAX_LEN: usize = 8 * 1_024;
    /// The longest name of an issuer or an audience in bytes.
    pub const MAX_NAME: usize = 256;
    /// How long tokens live by default.
    pub const DEFAULT_LIFE: Duration = Duration::from_secs(15 * 60);
    /// The longest that they may.
    pub const MAX_LIFE: Duration = Duration::from_secs(60 * 60);
    /// By how much the clocks of two processes may differ.
    pub const LEEWAY: Duration = Duration::from_secs(5);

    /// Tokens of `issuer` for `audience`, which live for
    /// [`DEFAULT_LIFE`](Self::DEFAULT_LIFE).
    ///
    /// # Errors
    ///
    /// Returns [`AccessTokensError::Name`].
    pub fn new(issuer: &str, audience: &str) -> Result<Self, AccessTokensError> {
        for (what, name) in [("issuer", issuer), ("audience", audience)] {
            if name.is_empty() || name.len() > Self::MAX_NAME {
                return Err(AccessTokensError::Name(what));
            }
        }
        Ok(Self {
            issuer: issuer.into(),
            audience: audience.into(),
            life: Self::DEFAULT_LIFE,
        })
    }

    /// Sets how long they live.
    ///
    /// # Errors
    ///
    /// Returns [`AccessTokensError::Life`].
    pub fn lives(mut self, life: Duration) -> Result<Self, AccessTokensError> {
        if life < Duration::from_secs(1) || life > Self::MAX_LIFE {
            return Err(AccessTokensError::Life(life));
        }
        self.life = life;
        Ok(self)
    }

    /// How long tokens live.
    pub const fn life(&self) -> Duration {
        self.life
    }

    /// The token that says `claims`, signed by the active key.
    ///
    /// # Errors
    ///
    /// Returns [`IssueError`].
    #[expect(
        clippy::missing_panics_doc,
        reason = "texts, ids and numbers are always JSON"
    )]
    pub fn issue(&self, claims: &Claims, keys: &Keys) -> Result<String, IssueError> {
        let lives = claims.expires_at.since(claims.issued_at);
        if lives.is_zero() || lives > self.life {
            return Err(IssueError::Life);
        }
        let (key, header) = keys.signer();
        let wire = Wire::of(claims, &self.issuer, &self.audience);
        let json = serde_json::to_vec(&wire).expect("texts, ids and numbers are always JSON");
        let mut text = format!("{header}.");
        URL_SAFE_NO_PAD.encode_string(json, &mut text);
        let signature = key.sign(text.as_bytes());
        text.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut text);
        match text.len() {
            length if length > Self::MAX_LEN => Err(IssueError::Length(length)),
            _ => Ok(text),
        }
    }

    /// What `text` says, if one of `keys` signed it for this audience and its time is now.
    ///
    /// It takes as long for a token as its length asks for, and for one that is too long
    /// nothing.
    ///
    /// # Errors
    ///
    /// Returns why it is no token.
    pub fn verify(&self, text: &str, keys: &Keys, now: Timestamp) -> Result<Claims, Refused> {
        if text.len() > Self::MAX_LEN {
            return Err(Refused::Length);
        }
        let (signed, signature) = text.rsplit_once('.').ok_or(Refused::Form)?;
        let (header, payload) = signed.split_once('.').ok_or(Refused::Form)?;
        let key = keys.of(header).ok_or(Refused::Key)?;
        let mut bytes = [0; 64];
        let read = URL_SAFE_NO_PAD.decode_slice(signature, &mut bytes);
        if read != Ok(bytes.len()) {
            return Err(Refused::Form);
        }
        if !key.verifies(signed.as_bytes(), &bytes) {
            return Err(Refused::Signature);
        }
        // From here on it is what a key of ours signed, for whomever.
        let json = URL_SAFE_NO_PAD.decode(payload).map_err(|_| Refused::Form)?;
        let wire: Wire<'_> = serde_json::from_slice(&json).map_err(|_| Refused::Claims)?;
        if *wire.iss != *self.issuer {
            return Err(Refused::Issuer);
        }
        if *wire.aud != *self.audience {
            return Err(Refused::Audience);
        }
        let claims = wire.claims().ok_or(Refused::Claims)?;
        self.in_time(&claims, wire.nbf, now)?;
        Ok(claims)
    }

    fn in_time(&self, claims: &Claims, nbf: Option<i64>, now: Timestamp) -> Result<(), Refused> {
        let (soon, late) = (now.after(Self::LEEWAY), now.before(Self::LEEWAY));
        let begins = nbf.map(|it| Timestamp::from_micros(it.saturating_mul(1_000_000)));
        if claims.issued_at > soon || begins.is_some_and(|it| it > soon) {
            return Err(Refused::Early);
        }
        if claims.expires_at <= late {
            return Err(Refused::Expired);
        }
        // Of a process that was told another life, or of nobody.
        if claims.expires_at.since(claims.issued_at) > Self::MAX_LIFE {
            return Err(Refused::Life);
        }
        Ok(())
    }
}
