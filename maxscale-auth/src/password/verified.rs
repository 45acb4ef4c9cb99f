use std::fmt;

use super::scheme::Scheme;
use super::typed::Typed;

/// What became of checking a password.
#[derive(Debug)]
#[must_use]
#[non_exhaustive]
pub struct Verified {
    /// Whether the password is the one behind the stored hash.
    pub right: bool,
    /// What was checked against.
    pub scheme: Scheme,
    /// There if the password was right and its hash is of another scheme, or was
    /// cheaper, than those that are made today: for
    /// [`upgrade`](super::PasswordPool::upgrade), after the answer.
    pub upgrade: Option<Upgrade>,
}

/// A password that was right, whose hash should be made anew.
pub struct Upgrade {
    pub(super) typed: Typed,
    pub(super) from: String,
}

/// A better hash of the same password.
///
/// Store it by compare-and-set: only where `from` is still what is stored. A
/// password that was changed meanwhile must not be changed back.
#[derive(Clone, PartialEq, Eq)]
#[must_use]
#[non_exhaustive]
pub struct Upgraded {
    /// The stored hash that was verified.
    pub from: String,
    /// The one to store in its place.
    pub to: String,
}

impl fmt::Debug for Upgrade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Upgrade(***)")
    }
}

impl fmt::Debug for Upgraded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Upgraded(***)")
    }
}
