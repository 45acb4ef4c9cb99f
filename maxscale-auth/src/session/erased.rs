//! A store behind a pointer, so that what uses sessions has no type parameter.

use std::fmt;
use std::num::NonZeroU32;
use std::pin::Pin;
use std::task::{Context, Poll};

use maxscale_core::BoxError;
use maxscale_core::id::Id;
use maxscale_core::refusal::{Class, Classify};
use pin_project_lite::pin_project;

use super::record::{Roles, Session, Standing};
use super::store::{
    Created, Listed, NewSession, Reach, Revoked, Rotation, SessionStore, Touch, Which, Why,
};

/// A store of sessions did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[error("the store of sessions did not answer")]
pub struct StoreError {
    class: Class,
    #[source]
    source: BoxError,
}

pin_project! {
    /// A call of a store, with its errors as ours. An async block would set room aside for
    /// the call twice, and move it from one to the other when it begins.
    struct Asking<F> {
        #[pin]
        call: F,
    }
}

pub(crate) type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// Keeps when something was used last.
pub(crate) trait DynTouch: Send + Sync {
    fn touch<'a>(&'a self, touches: &'a [Touch]) -> Answer<'a, ()>;
}

/// [`SessionStore`] without its error's type.
pub(crate) trait DynStore: DynTouch {
    fn create<'a>(&'a self, new: &'a NewSession<'a>, most: NonZeroU32) -> Answer<'a, Created>;
    fn load(&self, user: Id, session: Id) -> Answer<'_, Option<(Session, Standing)>>;
    fn rotate<'a>(&'a self, user: Id, session: Id, rotation: &'a Rotation) -> Answer<'a, bool>;
    fn revoke(&self, user: Id, which: Which, why: Why) -> Answer<'_, Revoked>;
    fn list(&self, user: Id) -> Answer<'_, Vec<Listed>>;
    fn set_roles<'a>(&'a self, user: Id, roles: &'a Roles) -> Answer<'a, Reach>;
    fn changed(&self, user: Id) -> Answer<'_, Reach>;
}

// === impl StoreError ===

impl StoreError {
    fn of<E: std::error::Error + Classify + Send + Sync + 'static>(error: E) -> Self {
        Self {
            class: error.class(),
            source: error.into(),
        }
    }

    /// A drawn id was drawn before.
    pub(crate) fn exists() -> Self {
        Self {
            class: Class::Internal,
            source: "a session of this id exists".into(),
        }
    }
}

impl Classify for StoreError {
    fn class(&self) -> Class {
        self.class
    }
}

impl<T: SessionStore> DynTouch for T {
    fn touch<'a>(&'a self, touches: &'a [Touch]) -> Answer<'a, ()> {
        answer(SessionStore::touch(self, touches))
    }
}

impl<T: SessionStore> DynStore for T {
    fn create<'a>(&'a self, new: &'a NewSession<'a>, most: NonZeroU32) -> Answer<'a, Created> {
        answer(SessionStore::create(self, new, most))
    }

    fn load(&self, user: Id, session: Id) -> Answer<'_, Option<(Session, Standing)>> {
        answer(SessionStore::load(self, user, session))
    }

    fn rotate<'a>(&'a self, user: Id, session: Id, rotation: &'a Rotation) -> Answer<'a, bool> {
        answer(SessionStore::rotate(self, user, session, rotation))
    }

    fn revoke(&self, user: Id, which: Which, why: Why) -> Answer<'_, Revoked> {
        answer(SessionStore::revoke(self, user, which, why))
    }

    fn list(&self, user: Id) -> Answer<'_, Vec<Listed>> {
        answer(SessionStore::list(self, user))
    }

    fn set_roles<'a>(&'a self, user: Id, roles: &'a Roles) -> Answer<'a, Reach> {
        answer(SessionStore::set_roles(self, user, roles))
    }

    fn changed(&self, user: Id) -> Answer<'_, Reach> {
        answer(SessionStore::changed(self, user))
    }
}

pub(crate) fn answer<'a, T, E>(
    call: impl Future<Output = Result<T, E>> + Send + 'a,
) -> Answer<'a, T>
where
    E: std::error::Error + Classify + Send + Sync + 'static,
{
    Box::pin(Asking { call })
}

// === impl Asking ===

impl<T, E, F> Future for Asking<F>
where
    E: std::error::Error + Classify + Send + Sync + 'static,
    F: Future<Output = Result<T, E>>,
{
    type Output = Result<T, StoreError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().call.poll(cx).map_err(StoreError::of)
    }
}

impl fmt::Debug for dyn DynTouch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DynTouch")
    }
}

impl fmt::Debug for dyn DynStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DynStore")
    }
}
