use std::sync::Arc;

use http::header::{HeaderName, HeaderValue};

use super::{Decision, Quota};
use crate::refusal::whole_seconds;

/// The header that names a policy: `"name";q=100;w=60` (IETF draft 10).
const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// The header that tells what is left: `"name";r=9;t=6` (IETF draft 10).
const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// A quota with the name that clients see in headers and refusals.
///
/// Keys of different policies never meet, also when their texts are equal.
#[derive(Clone, Debug)]
pub struct Policy {
    name: Arc<str>,
    quota: Quota,
    header: HeaderValue,
}

/// A policy's name cannot stand in a header.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// The name is empty, or has other characters than the error names.
    #[error("`{name}` is no policy name; use letters, digits, `-`, `_` and `.`")]
    Name {
        /// The name given.
        name: Box<str>,
    },
}

// === impl Policy ===

impl Policy {
    /// A policy whose name is made of ASCII letters, digits, `-`, `_` and `.`.
    ///
    /// # Errors
    ///
    /// [`PolicyError::Name`] for any other name.
    pub fn new(name: &str, quota: Quota) -> Result<Self, PolicyError> {
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        let refused = || PolicyError::Name { name: name.into() };
        if name.is_empty() || !name.bytes().all(fits) {
            return Err(refused());
        }
        let header = HeaderValue::try_from(described(name, &quota)).map_err(|_| refused())?;
        Ok(Self {
            name: name.into(),
            quota,
            header,
        })
    }

    /// The policy's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The policy's quota.
    pub const fn quota(&self) -> &Quota {
        &self.quota
    }

    /// Names `key` within this policy, as [`LimitStore::take`] wants it.
    ///
    /// [`LimitStore::take`]: super::LimitStore::take
    pub fn key(&self, key: &str) -> String {
        // A name has no colon, so no two pairs of name and key give one text.
        format!("{}:{key}", self.name)
    }

    /// The headers that tell a client where it stands.
    pub(super) fn headers(&self, decision: &Decision) -> [(HeaderName, HeaderValue); 2] {
        let state = HeaderValue::try_from(self.state(decision))
            .expect("a policy's name has only characters that headers may have");
        [(RATELIMIT_POLICY, self.header.clone()), (RATELIMIT, state)]
    }

    fn state(&self, decision: &Decision) -> String {
        let (left, wait) = match decision {
            Decision::Allow { remaining, reset } => (*remaining, *reset),
            Decision::Deny { retry_after, .. } => (0, *retry_after),
        };
        // Rounded as `Retry-After` is, which clients compare with it.
        let wait = whole_seconds(wait);
        format!("\"{}\";r={left};t={wait}", self.name)
    }
}

fn described(name: &str, quota: &Quota) -> String {
    let (per, window) = (quota.per(), quota.window());
    // The draft counts windows in whole seconds and allows to leave them out.
    if window.subsec_nanos() == 0 {
        format!("\"{name}\";q={per};w={}", window.as_secs())
    } else {
        format!("\"{name}\";q={per}")
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    #[test]
    fn name_that_would_break_the_header_is_refused() {
        let quota = Quota::per_minute(NonZeroU32::MIN).unwrap();
        for name in ["", "a b", "a\"b", "a:b", "ä"] {
            assert!(Policy::new(name, quota).is_err(), "{name}");
        }
    }
}
