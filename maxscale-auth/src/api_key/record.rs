//! What is known of a key, and what is asked for to have one.

use std::fmt;
use std::time::Duration;

use maxscale_core::clock::Timestamp;
use maxscale_core::id::Id;
use maxscale_core::limit::Quota;

use super::ApiKeys;
use crate::session::Roles;

/// A key as its owner sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ApiKey {
    /// Its id, which is no secret.
    pub id: Id,
    /// Whose it is.
    pub user: Id,
    /// The key that it and those before it began with: it has one quota with them.
    pub lineage: Id,
    /// How its owner calls it.
    pub name: String,
    /// What may be done with it.
    pub scopes: Scopes,
    /// How many requests any window admits; `None` for no bound of its own.
    pub quota: Option<Quota>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
    /// Its last request, as far as it was written; `None` if there was none.
    pub used_at: Option<Timestamp>,
}

/// What a key is for: names of scopes, at least one. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Scopes(Roles);

/// What is asked for to have a key.
#[derive(Clone, Debug)]
#[must_use]
pub struct NewApiKey {
    pub(super) name: String,
    pub(super) scopes: Scopes,
    pub(super) life: Duration,
    pub(super) quota: Option<Quota>,
}

/// A key that was just made. Its text is had once, here.
#[derive(Clone)]
#[non_exhaustive]
pub struct MadeApiKey {
    /// The text that a program brings: a secret.
    pub text: String,
    /// What is known of it.
    pub key: ApiKey,
}

/// What a request with a key has of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) scopes: Scopes,
    pub(crate) lineage: Id,
    pub(crate) quota: Option<Quota>,
}

// === impl Scopes ===

impl Scopes {
    /// The scopes of these names; `None` for none, for one that is empty or has anything but
    /// ASCII letters, digits, `-`, `_`, `.` and `:`, and if all are longer than
    /// [`Roles::MAX_LEN`].
    pub fn new<'n>(names: impl IntoIterator<Item = &'n str>) -> Option<Self> {
        let names = Roles::new(names)?;
        (!names.text().is_empty()).then_some(Self(names))
    }

    /// The scopes of a stored text.
    pub(super) fn of(text: &str) -> Self {
        Self(Roles::of(text))
    }

    pub(super) fn text(&self) -> &str {
        self.0.text()
    }

    /// The names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.names()
    }

    /// Whether `scope` is one of them.
    pub fn has(&self, scope: &str) -> bool {
        self.0.has(scope)
    }
}

// === impl NewApiKey ===

impl NewApiKey {
    /// A key that its owner calls `name`, for these scopes.
    pub fn new(name: &str, scopes: Scopes) -> Self {
        Self {
            name: name.to_owned(),
            scopes,
            life: ApiKeys::DEFAULT_LIFE,
            quota: None,
        }
    }

    /// Sets how long it lives, at most [`ApiKeys::MAX_LIFE`]. Default:
    /// [`ApiKeys::DEFAULT_LIFE`].
    pub const fn lives(mut self, life: Duration) -> Self {
        self.life = life;
        self
    }

    /// Sets how many requests may be made with it, and with those that replace it. Default:
    /// no bound of its own.
    pub const fn quota(mut self, quota: Quota) -> Self {
        self.quota = Some(quota);
        self
    }
}

impl fmt::Debug for MadeApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("MadeApiKey");
        shown.field("key", &self.key).finish_non_exhaustive()
    }
}
