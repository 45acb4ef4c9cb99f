use std::time::Duration;

use maxscale_core::limit::RuleError;
use maxscale_core::refusal::{Class, Classify};

use super::ApiKeys;
use crate::error::AuthError;
use crate::guard::Denied;

/// A key was not made, exchanged, ended or taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ApiKeyError {
    /// Who asks may not change keys: that needs the user in person, and a proof of a moment
    /// ago.
    #[error(transparent)]
    Denied(#[from] Denied),

    /// Who was recognised by an access token makes no key by it: who has stolen one has it
    /// for as long as it lives.
    #[error("an API key is made by who has the session itself")]
    ByToken,

    /// The user has no such key that lives.
    #[error("there is no such API key")]
    NoKey,

    /// The user has as many keys as he may have.
    #[error("a user may have {} API keys", ApiKeys::MAX_PER_USER)]
    TooMany,

    /// The service has no such scope.
    #[error("there is no scope {scope:?}")]
    Scope {
        /// What was asked for.
        scope: Box<str>,
    },

    /// Less than a second, or more than [`ApiKeys::MAX_LIFE`].
    #[error("an API key lives for a second to {} days", ApiKeys::MAX_LIFE.as_secs() / 86_400)]
    Life,

    /// More than [`ApiKeys::MAX_OVERLAP`].
    #[error("an API key goes on beside the next one for {} days at most", ApiKeys::MAX_OVERLAP.as_secs() / 86_400)]
    Overlap,

    /// There is no such quota.
    #[error(transparent)]
    Bound(#[from] RuleError),

    /// The key's quota is used up.
    #[error("the API key's quota is used up")]
    Quota {
        /// When there is room again, if nobody else takes it.
        retry_after: Option<Duration>,
    },

    /// The client brought too many wrong keys, and none of it is looked for.
    #[error("too many wrong API keys; try again later")]
    Wrong {
        /// When the next one is looked for.
        retry_after: Option<Duration>,
    },

    /// A defect of ours: nobody has said which client a request is of, and wrong keys could
    /// not be counted.
    #[error(
        "requests with API keys have no ClientIp; add the layer that leaves it around SessionLayer"
    )]
    NoAddress,

    /// The rows could not be asked, or the account does not allow it.
    #[error(transparent)]
    Auth(#[from] AuthError),
}

// === impl ApiKeyError ===

impl Classify for ApiKeyError {
    fn class(&self) -> Class {
        match self {
            Self::Denied(denied) => denied.class(),
            Self::ByToken => Class::Forbidden,
            Self::NoKey => Class::NotFound,
            Self::TooMany => Class::Conflict,
            Self::Scope { .. } | Self::Life | Self::Overlap | Self::Bound(_) => {
                Class::Unprocessable
            }
            Self::Quota { .. } | Self::Wrong { .. } => Class::Limited,
            Self::NoAddress => Class::Internal,
            Self::Auth(error) => error.class(),
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Denied(denied) => denied.code(),
            Self::ByToken => "by_access_token",
            Self::NoKey => "no_api_key",
            Self::TooMany => "too_many_api_keys",
            Self::Scope { .. } => "scope_unknown",
            Self::Life => "life_invalid",
            Self::Overlap => "overlap_invalid",
            Self::Bound(_) => "quota_invalid",
            Self::Quota { .. } => "api_key_quota",
            Self::Wrong { .. } => "wrong_api_keys",
            Self::NoAddress => self.class().code(),
            Self::Auth(error) => error.code(),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Quota { retry_after } | Self::Wrong { retry_after } => *retry_after,
            Self::Auth(error) => error.retry_after(),
            _ => None,
        }
    }
}
