//! Where in a request and an answer the texts are.

use std::sync::Arc;
use std::time::Duration;

use http::Response;
use http::header::{COOKIE, HeaderMap, HeaderName, HeaderValue, SET_COOKIE};
use maxscale_core::clock::Clock;
use maxscale_core::keys::{KeyRing, Keys};
use maxscale_core::refusal::{Refuse, ReplyBody};

use crate::freshness::{Freshness, FreshnessError};

/// How the cookies are named and protected.
///
/// There are two, one for answers to writes and one for those to reads. Always
/// HttpOnly, `SameSite=Lax`, for the whole site, and for as long as a write is
/// remembered. Unless switched off also `Secure`, with the prefix `__Host-`, so that
/// no other host can set them.
#[derive(Clone, Debug)]
pub struct FreshnessCookie {
    name: Arc<str>,
    secure: bool,
    /// For answers to writes, and for those to reads.
    names: [Arc<str>; 2],
}

/// A name that no cookie can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a cookie's name is made of letters, digits, '-', '_' and '.'")]
pub struct CookieNameError;

/// What a layer carries, and where.
#[derive(Clone, Debug)]
pub(super) struct Carry {
    pub(super) keys: Keys,
    pub(super) clock: Clock,
    pub(super) lifetime: Duration,
    pub(super) header: HeaderName,
    pub(super) cookie: Option<FreshnessCookie>,
}

/// Where a text was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    Header,
    Cookie,
}

/// More texts than any honest client sends.
const MOST_TEXTS: usize = 8;

// === impl FreshnessCookie ===

impl FreshnessCookie {
    /// The name unless set otherwise. The cookie for reads has `-seen` behind it.
    pub const DEFAULT_NAME: &str = "maxscale-fresh";

    /// Cookies of a site under TLS.
    pub fn new() -> Self {
        Self::of(Self::DEFAULT_NAME.into(), true)
    }

    /// Sets the name. Default: [`FreshnessCookie::DEFAULT_NAME`].
    ///
    /// # Errors
    ///
    /// Returns [`CookieNameError`] for one that is empty, or has other characters
    /// than letters, digits, `-`, `_` and `.`.
    pub fn named(self, name: &str) -> Result<Self, CookieNameError> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        if name.is_empty() || !name.bytes().all(plain) {
            return Err(CookieNameError);
        }
        Ok(Self::of(name.into(), self.secure))
    }

    /// Lets the cookies pass without TLS, and names them without the prefix: for
    /// development. Default: they do not.
    #[must_use]
    pub fn insecure(self) -> Self {
        Self::of(self.name, false)
    }

    fn of(name: Arc<str>, secure: bool) -> Self {
        let prefix = if secure { "__Host-" } else { "" };
        let names = ["", "-seen"].map(|suffix| format!("{prefix}{name}{suffix}").into());
        Self {
            name,
            secure,
            names,
        }
    }

    /// The `Set-Cookie` value that keeps `text` for `age`.
    fn set(&self, name: &str, text: &str, age: Duration) -> Option<HeaderValue> {
        let secure = if self.secure { "; Secure" } else { "" };
        // Rounded up: one of no second would be removed.
        let age = age.as_millis().div_ceil(1_000);
        let text = format!("{name}={text}; Path=/; HttpOnly; SameSite=Lax; Max-Age={age}{secure}");
        HeaderValue::try_from(text).ok()
    }
}

impl Default for FreshnessCookie {
    fn default() -> Self {
        Self::new()
    }
}

// === impl Carry ===

impl Carry {
    /// What a request brings; of several texts the latest of each node.
    pub(super) fn read(&self, headers: &HeaderMap) -> Result<Freshness, (FreshnessError, Origin)> {
        let ring = self.keys.ring();
        let known = Freshness::new(self.clock.clone()).lifetime(self.lifetime);
        let lines = headers.get_all(&self.header);
        let header = self.take(&known, &ring, lines.iter().map(HeaderValue::as_bytes));
        match (header, &self.cookie) {
            (Ok(0), Some(cookie)) => {
                let texts = cookies(headers).filter_map(|(name, text)| {
                    let ours = cookie.names.iter().any(|known| known.as_bytes() == name);
                    ours.then_some(text)
                });
                let taken = self.take(&known, &ring, texts);
                taken
                    .map(|_| known)
                    .map_err(|error| (error, Origin::Cookie))
            }
            (taken, _) => taken
                .map(|_| known)
                .map_err(|error| (error, Origin::Header)),
        }
    }

    /// Takes over all `texts`; gives how many there were.
    fn take<'t>(
        &self,
        known: &Freshness,
        ring: &KeyRing,
        texts: impl Iterator<Item = &'t [u8]>,
    ) -> Result<usize, FreshnessError> {
        let mut taken = 0;
        for text in texts {
            taken += 1;
            let text = str::from_utf8(text).map_err(|_| FreshnessError)?;
            if taken > MOST_TEXTS {
                return Err(FreshnessError);
            }
            known.merge(&Freshness::from_text(text, ring, self.clock.clone())?);
        }
        Ok(taken)
    }

    /// Tells the caller what is new, if anything is.
    pub(super) fn tell<R>(
        &self,
        freshness: &Freshness,
        grpc: bool,
        reply: &mut Response<ReplyBody<R>>,
    ) {
        if !freshness.has_changed() {
            return;
        }
        let text = freshness.to_text(&self.keys.ring());
        if let Some(cookie) = self.cookie.as_ref().filter(|_| !grpc) {
            let [wrote, saw] = &cookie.names;
            // Set by a read, it would undo what an answer to a write has set meanwhile.
            let name = if freshness.has_written() { wrote } else { saw };
            if let Some(value) = cookie.set(name, &text, self.lifetime) {
                Response::<R>::tell(reply, SET_COOKIE, value);
            }
        }
        if let Ok(value) = HeaderValue::try_from(text) {
            Response::<R>::tell(reply, self.header.clone(), value);
        }
    }

    /// Removes the cookies.
    pub(super) fn clear<R>(&self, reply: &mut Response<ReplyBody<R>>) {
        let Some(cookie) = &self.cookie else {
            return;
        };
        for name in &cookie.names {
            if let Some(value) = cookie.set(name, "", Duration::ZERO) {
                Response::<R>::tell(reply, SET_COOKIE, value);
            }
        }
    }
}

/// All cookies of a request, as bytes: one that is no text spoils no other.
fn cookies(headers: &HeaderMap) -> impl Iterator<Item = (&[u8], &[u8])> {
    let lines = headers.get_all(COOKIE).iter();
    let pairs = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
    pairs.filter_map(|pair| {
        let at = pair.iter().position(|byte| *byte == b'=')?;
        Some((pair[..at].trim_ascii(), pair[at + 1..].trim_ascii()))
    })
}
