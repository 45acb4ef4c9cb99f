use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use maxscale_core::clock::Timestamp;
use maxscale_core::fact::Subject;
use maxscale_core::id::Id;

use crate::api_key::Scopes;
use crate::session::{Consistency, Known, Level, Methods, Recognised, Roles, Source};
use crate::token::{By, Fingerprint};

/// Who is logged in: the fact that the session layer leaves in a request. Cheap to clone.
#[derive(Clone)]
pub struct Principal {
    known: Arc<Recognised>,
    recognised_at: Timestamp,
    /// How old what is known may have been.
    consistency: Consistency,
    /// Who recognised him.
    source: Source,
}

// === impl Principal ===

impl Principal {
    pub(crate) fn of(known: Known, consistency: Consistency, source: &Source) -> Self {
        Self {
            known: known.what,
            recognised_at: known.at,
            consistency,
            source: source.clone(),
        }
    }

    /// The user.
    pub fn user(&self) -> Id {
        self.known.token.user
    }

    /// The session that the request came with, itself or by an access token of it. With an
    /// API key it came with none, and this is the key's id.
    pub fn session(&self) -> Id {
        self.known.token.session
    }

    /// The user as core's layers name one.
    pub fn subject(&self) -> &Subject {
        &self.known.subject
    }

    /// How sure it is that it is the user.
    pub fn level(&self) -> Level {
        self.known.proof.level
    }

    /// By what the user proved it.
    pub fn methods(&self) -> Methods {
        self.known.proof.methods
    }

    /// When the user last proved it.
    pub fn authenticated_at(&self) -> Timestamp {
        self.known.proof.authenticated_at
    }

    /// How old that proof was when the request came.
    pub fn proof_age(&self) -> Duration {
        self.recognised_at.since(self.known.proof.authenticated_at)
    }

    /// How long the session could go on at most when the request came: what is left
    /// for a cookie.
    pub fn life_left(&self) -> Duration {
        self.known.ends_at.since(self.recognised_at)
    }

    pub(crate) fn ends_at(&self) -> Timestamp {
        self.known.ends_at
    }

    /// What the user may do, as the application names it.
    pub fn roles(&self) -> &Roles {
        &self.known.roles
    }

    /// The id and the scopes of the API key that the request came with, if it came with one.
    ///
    /// Who has a session has all scopes.
    pub fn api_key(&self) -> Option<(Id, &Scopes)> {
        let held = self.known.key.as_ref()?;
        Some((self.known.token.session, &held.scopes))
    }

    /// Who acts in the user's name, if it is not the user.
    pub fn actor(&self) -> Option<Id> {
        self.known.actor
    }

    /// By what it was recognised.
    pub(crate) fn token(&self) -> &Fingerprint {
        &self.known.token
    }

    /// Whether it was recognised by what keeps the session, and not by a token that was issued
    /// in it or a key that was made in it.
    pub(crate) fn has_session_itself(&self) -> bool {
        matches!(self.known.token.by, By::Secret(_))
    }

    pub(crate) const fn consistency(&self) -> Consistency {
        self.consistency
    }

    pub(crate) const fn source(&self) -> &Source {
        &self.source
    }

    pub(crate) fn version(&self) -> u32 {
        self.known.proof.version
    }
}

impl PartialEq for Principal {
    fn eq(&self, other: &Self) -> bool {
        self.known == other.known && self.recognised_at == other.recognised_at
    }
}

impl Eq for Principal {}

impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Principal")
            .field("known", &self.known)
            .field("recognised_at", &self.recognised_at)
            .finish_non_exhaustive()
    }
}
