use std::any::type_name;
use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use http::{HeaderName, Request};
use maxscale_core::fact::{Facts, Subject};

use super::RouteError;
use crate::key::Key;

/// Says which key a request is routed by.
///
/// A request is whatever the layer stands around: `http::Request`, a job.
/// Functions `Fn(&Q) -> Option<Key<'_>>` are keys too.
pub trait RouteKey<Q> {
    /// Why a request without a key is refused.
    fn missing(&self) -> RouteError {
        RouteError::NoFact {
            fact: "what the route's key function looks for",
        }
    }

    /// The key of `request`, if it has what the key is made of.
    ///
    /// # Errors
    ///
    /// Returns [`RouteError`] for what is there and no key.
    fn key<'q>(&'q self, request: &'q Q) -> Result<Option<RequestKey<'q>>, RouteError>;
}

/// A key as a request has it: borrowed from it, or text that was made of it.
#[derive(Clone, Debug)]
pub struct RequestKey<'q>(Form<'q>);

#[derive(Clone, Debug)]
enum Form<'q> {
    Key(Key<'q>),
    Text(Cow<'q, str>),
}

/// The key is the [`Subject`]: who asks, as a session layer has found out.
///
/// A session layer lets those pass who are not logged in; a stack that serves
/// them too takes [`optional`](super::RouteLayer::optional).
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct BySubject;

/// The key is the value of a header, or of gRPC metadata. Anyone can send one:
/// it says where to look, and never who asks.
#[derive(Clone, Debug)]
pub struct ByHeader {
    name: HeaderName,
}

/// The key is in a fact of type `T` that another layer adds, such as auth's `Principal`.
pub struct ByFact<T, F> {
    read: F,
    fact: PhantomData<fn(&T)>,
}

// === impl RequestKey ===

impl<'q> RequestKey<'q> {
    /// The longest text that is taken for a key, in bytes.
    pub const MAX_LEN: usize = 1024;

    /// The key itself.
    pub(super) fn bounded(&self) -> Result<Key<'_>, RouteError> {
        let key = match &self.0 {
            Form::Key(key) => *key,
            Form::Text(text) => Key::from(&**text),
        };
        if key.is_longer_than(Self::MAX_LEN) {
            return Err(RouteError::TooLong);
        }
        Ok(key)
    }
}

impl<'q> From<Key<'q>> for RequestKey<'q> {
    fn from(key: Key<'q>) -> Self {
        Self(Form::Key(key))
    }
}

impl<'q> From<Cow<'q, str>> for RequestKey<'q> {
    fn from(text: Cow<'q, str>) -> Self {
        Self(Form::Text(text))
    }
}

impl From<String> for RequestKey<'_> {
    fn from(text: String) -> Self {
        Self(Form::Text(text.into()))
    }
}

// === impl BySubject ===

impl BySubject {
    /// The key is the subject.
    pub const fn new() -> Self {
        Self
    }
}

impl<Q: Facts> RouteKey<Q> for BySubject {
    fn missing(&self) -> RouteError {
        RouteError::NoFact {
            fact: "Subject; add a layer that knows who asks, such as a SessionLayer, before it",
        }
    }

    fn key<'q>(&'q self, request: &'q Q) -> Result<Option<RequestKey<'q>>, RouteError> {
        let subject: Option<&Subject> = request.fact();
        Ok(subject.map(|subject| Key::from(subject.as_str()).into()))
    }
}

// === impl ByHeader ===

impl ByHeader {
    /// The key is the header `name`.
    pub const fn new(name: HeaderName) -> Self {
        Self { name }
    }
}

impl<B> RouteKey<Request<B>> for ByHeader {
    fn missing(&self) -> RouteError {
        RouteError::NoHeader {
            header: self.name.clone(),
        }
    }

    fn key<'q>(&'q self, request: &'q Request<B>) -> Result<Option<RequestKey<'q>>, RouteError> {
        let mut values = request.headers().get_all(&self.name).iter();
        let Some(value) = values.next() else {
            return Ok(None);
        };
        match (value.to_str(), values.next()) {
            (Ok(text), None) => Ok(Some(Key::from(text).into())),
            _ => Err(RouteError::BadHeader {
                header: self.name.clone(),
            }),
        }
    }
}

// === impl ByFact ===

impl<T, F> ByFact<T, F>
where
    F: for<'t> Fn(&'t T) -> Key<'t>,
{
    /// The key is what `read` finds in the fact: `ByFact::new(|me: &Principal| me.user().into())`.
    pub const fn new(read: F) -> Self {
        Self {
            read,
            fact: PhantomData,
        }
    }
}

impl<Q, T, F> RouteKey<Q> for ByFact<T, F>
where
    Q: Facts,
    T: Clone + Send + Sync + 'static,
    F: for<'t> Fn(&'t T) -> Key<'t>,
{
    fn missing(&self) -> RouteError {
        RouteError::NoFact {
            fact: type_name::<T>(),
        }
    }

    fn key<'q>(&'q self, request: &'q Q) -> Result<Option<RequestKey<'q>>, RouteError> {
        let fact: Option<&'q T> = request.fact();
        Ok(fact.map(|fact| (self.read)(fact).into()))
    }
}

impl<T, F: Clone> Clone for ByFact<T, F> {
    fn clone(&self) -> Self {
        Self {
            read: self.read.clone(),
            fact: PhantomData,
        }
    }
}

impl<T, F> fmt::Debug for ByFact<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ByFact({})", type_name::<T>())
    }
}

// === functions ===

impl<Q, F> RouteKey<Q> for F
where
    F: for<'q> Fn(&'q Q) -> Option<Key<'q>>,
{
    fn key<'q>(&'q self, request: &'q Q) -> Result<Option<RequestKey<'q>>, RouteError> {
        Ok(self(request).map(RequestKey::from))
    }
}
