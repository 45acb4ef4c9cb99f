//! Guards that a handler names by a type.

use std::marker::PhantomData;
use std::ops::Deref;
use std::time::Duration;

use http::Extensions;

use super::{Denied, Guard};
use crate::principal::Principal;
use crate::session::Nobody;

/// A [`Guard`] with a name.
///
/// ```
/// # use maxscale_auth::{Allowed, Demand, Guard};
/// struct Admin;
///
/// impl Demand for Admin {
///     fn guard() -> Guard {
///         Guard::logged_in().role("admin")
///     }
/// }
///
/// /// Nobody can call it without the role.
/// fn ban(by: &Allowed<Admin>) {}
/// ```
pub trait Demand {
    /// What is required.
    fn guard() -> Guard;
}

/// Who is logged in, and was let through by the guard of `D`: a value of this type is
/// the proof of it.
///
/// With the feature `axum` it is an extractor.
#[derive(Debug)]
pub struct Allowed<D> {
    principal: Principal,
    by: PhantomData<fn() -> D>,
}

/// Requires a proof that is at most so many seconds old.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "a name")]
pub struct FreshWithin<const SECS: u64>;

/// Requires two factors.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "a name")]
pub struct SecondFactor;

/// Who proved who he is at most so many seconds ago.
pub type Fresh<const SECS: u64> = Allowed<FreshWithin<SECS>>;

/// Who proved who he is by two factors.
pub type Aal2 = Allowed<SecondFactor>;

impl<const SECS: u64> Demand for FreshWithin<SECS> {
    fn guard() -> Guard {
        Guard::logged_in().fresh(Duration::from_secs(SECS))
    }
}

impl Demand for SecondFactor {
    fn guard() -> Guard {
        Guard::logged_in().aal2()
    }
}

// === impl Allowed ===

impl<D: Demand> Allowed<D> {
    /// Checks who is logged in.
    ///
    /// # Errors
    ///
    /// Returns [`Denied`] with what is missing.
    pub fn check(principal: Option<&Principal>) -> Result<Self, Denied> {
        D::guard().check(principal)?;
        let principal = principal.ok_or(Denied::NotLoggedIn)?.clone();
        Ok(Self {
            principal,
            by: PhantomData,
        })
    }
}

impl<D> Allowed<D> {
    /// Who it is.
    pub fn into_principal(self) -> Principal {
        self.principal
    }
}

impl<D> Deref for Allowed<D> {
    type Target = Principal;

    fn deref(&self) -> &Principal {
        &self.principal
    }
}

/// Who is logged in, as the session layer left it.
pub(crate) fn principal(facts: &Extensions) -> Result<Option<&Principal>, Denied> {
    let principal = facts.get::<Principal>();
    if principal.is_none() && facts.get::<Nobody>().is_none() {
        return Err(Denied::NoSessionLayer);
    }
    Ok(principal)
}
