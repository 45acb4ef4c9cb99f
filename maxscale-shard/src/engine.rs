//! The two engines: how each is opened and spoken to.

pub(crate) mod capabilities;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub(crate) mod driver;
#[cfg(feature = "postgres")]
pub(crate) mod postgres;
#[cfg(feature = "sqlite")]
pub(crate) mod sqlite;
pub(crate) mod verdict;

/// What the arm of an enum without an engine gives: nothing, since it has no value.
pub(crate) fn never<T>(never: &std::convert::Infallible) -> T {
    match *never {}
}
