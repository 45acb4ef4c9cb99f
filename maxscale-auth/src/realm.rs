use std::fmt;

/// Keeps apart users who do not know of each other: the same email may have an
/// account in each realm, and what was issued in one is nothing in another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Realm(u16);

// === impl Realm ===

impl Realm {
    /// The realm of a service that has one.
    pub const MAIN: Self = Self(0);

    /// The realm of this number.
    pub const fn new(number: u16) -> Self {
        Self(number)
    }

    /// Its number.
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl fmt::Display for Realm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
