//! What a request must bring to be let through, checked on who sends it.
//!
//! It knows no framework and asks nobody: a [`Principal`] says all that counts.

mod layer;
mod typed;

use std::time::Duration;

use maxscale_core::refusal::{Class, Classify};

use crate::api_key::Scopes;
use crate::principal::Principal;
use crate::session::Level;

#[cfg(feature = "axum")]
pub(crate) use layer::tell;
pub use layer::{Require, RequireFuture, RequireLayer};
#[cfg(feature = "axum")]
pub(crate) use typed::principal;
pub use typed::{Aal2, Allowed, Demand, Fresh, FreshWithin, SecondFactor};

/// What somebody must have proved to be let through.
///
/// ```
/// # use std::time::Duration;
/// # use maxscale_auth::{Guard, RequireLayer};
/// let admins = RequireLayer::new(Guard::logged_in().role("admin").aal2());
/// let closing_the_account = Guard::logged_in().fresh(Duration::from_secs(600));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Guard {
    roles: Vec<&'static str>,
    scopes: Vec<&'static str>,
    level: Level,
    fresh: Option<Duration>,
    in_person: bool,
}

/// Somebody was not let through, and this is what is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Denied {
    /// Nobody is logged in: 401, `not_logged_in`.
    #[error("log in first")]
    NotLoggedIn,

    /// The user lacks a role: 403, `role_required`.
    #[error("the role {role} is required")]
    Role {
        /// Its name.
        role: &'static str,
    },

    /// The request came with an API key, which does not go here: 403, `api_key_refused`.
    #[error("an API key is not enough for this")]
    ApiKey,

    /// The API key lacks a scope: 403, `scope_required`.
    #[error("the scope {scope} is required")]
    Scope {
        /// Its name.
        scope: &'static str,
    },

    /// The session has one factor, and two are required: 403, `aal2_required`.
    #[error("a second factor is required")]
    Aal2,

    /// The proof is too old: 403, `fresh_auth_required`. The session goes on; another
    /// proof makes it fresh.
    #[error("another proof is required: the last one is older than {} seconds", within.as_secs())]
    Stale {
        /// How old it may be.
        within: Duration,
    },

    /// Somebody acts in the user's name, which does not go here: 403, `actor_refused`.
    #[error("only the user may do this")]
    Actor,

    /// A defect of ours: the request has passed no session layer.
    #[error("add SessionLayer outside of what asks who is logged in")]
    NoSessionLayer,
}

// === impl Guard ===

impl Guard {
    /// Lets everybody through who is logged in.
    pub fn logged_in() -> Self {
        Self::default()
    }

    /// Requires a role; of several, all.
    pub fn role(mut self, role: &'static str) -> Self {
        self.roles.push(role);
        self
    }

    /// Lets API keys through, too, if they have this scope; of several, all. Who has a
    /// session has all scopes.
    ///
    /// A guard that names none lets no key through.
    pub fn scope(mut self, scope: &'static str) -> Self {
        self.scopes.push(scope);
        self
    }

    /// Requires a proof by two factors.
    pub fn aal2(mut self) -> Self {
        self.level = Level::Aal2;
        self
    }

    /// Requires a proof that is not older than this, by the user
    /// [in person](Self::in_person).
    pub fn fresh(mut self, within: Duration) -> Self {
        self.fresh = Some(within);
        self.in_person()
    }

    /// Refuses who acts in the user's name, and API keys: for what is sensitive.
    pub fn in_person(mut self) -> Self {
        self.in_person = true;
        self
    }

    /// Whether `principal` is let through, and if not, what is missing.
    ///
    /// # Errors
    ///
    /// Returns [`Denied`] with the first thing that is missing: a login, a scope, a role,
    /// that it is the user himself, the second factor, a fresh proof.
    pub fn check(&self, principal: Option<&Principal>) -> Result<(), Denied> {
        let principal = principal.ok_or(Denied::NotLoggedIn)?;
        if let Some((_, has)) = principal.api_key() {
            self.check_key(has)?;
        }
        let lacks = |role: &&&str| !principal.roles().has(role);
        if let Some(role) = self.roles.iter().find(lacks) {
            return Err(Denied::Role { role });
        }
        if self.in_person && principal.actor().is_some() {
            return Err(Denied::Actor);
        }
        if principal.level() < self.level {
            return Err(Denied::Aal2);
        }
        match self.fresh {
            Some(within) if principal.proof_age() > within => Err(Denied::Stale { within }),
            _ => Ok(()),
        }
    }

    fn check_key(&self, has: &Scopes) -> Result<(), Denied> {
        if self.in_person || self.scopes.is_empty() {
            return Err(Denied::ApiKey);
        }
        match self.scopes.iter().find(|scope| !has.has(scope)) {
            Some(scope) => Err(Denied::Scope { scope }),
            None => Ok(()),
        }
    }
}

// === impl Denied ===

impl Classify for Denied {
    fn class(&self) -> Class {
        match self {
            Self::NotLoggedIn => Class::Unauthenticated,
            Self::NoSessionLayer => Class::Internal,
            _ => Class::Forbidden,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::NotLoggedIn => "not_logged_in",
            Self::Role { .. } => "role_required",
            Self::ApiKey => "api_key_refused",
            Self::Scope { .. } => "scope_required",
            Self::Aal2 => "aal2_required",
            Self::Stale { .. } => "fresh_auth_required",
            Self::Actor => "actor_refused",
            Self::NoSessionLayer => self.class().code(),
        }
    }
}
