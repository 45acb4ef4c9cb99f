//! A handle for each stripe of threads: what requests take along of it is counted on a
//! cache line that other threads do not write.

use std::iter::repeat_n;
use std::ops::Deref;
use std::sync::Arc;

use maxscale_core::stripes::{self, STRIPES};

use super::sessions::{Known, Sessions};
use crate::api_key::ApiKeys;
use crate::error::AuthError;
use crate::token::{By, Fingerprint};

/// A handle to sessions, which requests keep.
#[derive(Clone, Debug)]
pub(crate) struct Source(Arc<Apart>);

#[derive(Debug)]
#[repr(align(128))]
struct Apart {
    sessions: Sessions,
    keys: Option<ApiKeys>,
}

/// The same handle for all threads.
#[derive(Debug)]
pub(super) struct Sources(Box<[Source]>);

// === impl Source ===

impl Source {
    pub(super) fn new(sessions: Sessions) -> Self {
        Self::with_keys(sessions, None)
    }

    /// Which knows API keys too.
    pub(crate) fn with_keys(sessions: Sessions, keys: Option<ApiKeys>) -> Self {
        Self(Arc::new(Apart { sessions, keys }))
    }

    pub(super) fn keys(&self) -> Option<&ApiKeys> {
        self.0.keys.as_ref()
    }

    /// Who has a token that was verified, as its store says now.
    pub(super) async fn ask(&self, token: &Fingerprint) -> Result<Option<Known>, AuthError> {
        match (&token.by, &self.0.keys) {
            // Held here, it would be most of what is set aside for each session.
            (By::Key(_), Some(keys)) => Box::pin(keys.find(token)).await,
            _ => self.0.sessions.find(token).await,
        }
    }
}

impl Deref for Source {
    type Target = Sessions;

    fn deref(&self) -> &Sessions {
        &self.0.sessions
    }
}

// === impl Sources ===

impl Sources {
    pub(super) fn new(sessions: Sessions, keys: Option<ApiKeys>) -> Self {
        let all = repeat_n((sessions, keys), STRIPES);
        Self(
            all.map(|(sessions, keys)| Source::with_keys(sessions, keys))
                .collect(),
        )
    }

    pub(super) fn of_this_thread(&self) -> &Source {
        &self.0[stripes::of_this_thread() % STRIPES]
    }
}
