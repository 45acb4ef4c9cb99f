//! A text that is never shown by accident.

use std::fmt;

use super::mask::MASK;

/// A secret from the configuration; its `Debug` output is `***`.
///
/// There is no `Display`: what needs the text asks for it by name.
#[derive(Clone)]
pub struct Secret(Box<str>);

// === impl Secret ===

impl Secret {
    /// Takes a text into keeping.
    #[must_use]
    pub fn new(text: impl Into<Box<str>>) -> Self {
        Self(text.into())
    }

    /// The secret itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}
