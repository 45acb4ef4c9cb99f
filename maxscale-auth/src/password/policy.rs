//! Which passwords are taken.
//!
//! Long ones, of any characters, that are not among the first that somebody who
//! guesses would try (NIST SP 800-63B-4, OWASP ASVS 5, 6.2). There are no rules about what
//! must be in a password, and none lapses with time.

mod context;
pub mod filter;
mod most_used;
mod pattern;
#[cfg(test)]
mod tests;
mod weakness;

use std::fmt;
use std::sync::Arc;

use unicode_normalization::UnicodeNormalization;

use super::typed::{MAX_CHARS, Typed};
use filter::PasswordFilter;

pub use context::Context;
pub use weakness::Weakness;

/// Which passwords are taken. Cheap to clone.
///
/// At least 15 characters (8 with a second factor) and at most 256, counted in NFKC;
/// not one of 11,611 common passwords, in whatever case; nothing that is only
/// a short piece repeated or a run along the keyboard; little besides the names
/// that are known of the account and the service; and not in the
/// [`breached`](Self::breached) list, if there is one.
#[derive(Clone, Debug)]
pub struct PasswordPolicy {
    service: Arc<[Box<str>]>,
    breached: Option<Arc<PasswordFilter>>,
}

/// A password that the policy has taken, and that may be hashed.
#[derive(Clone)]
#[must_use]
pub struct NewPassword(pub(super) Typed);

/// What logs an account in beside the password.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Factors {
    /// Nothing.
    #[default]
    PasswordAlone,
    /// A second factor, always.
    WithAnother,
}

// === impl PasswordPolicy ===

impl PasswordPolicy {
    /// The fewest characters, without a second factor.
    pub const MIN_CHARS: usize = 15;
    /// The fewest characters, with a second factor.
    pub const MIN_CHARS_WITH_ANOTHER: usize = 8;
    /// The most characters.
    pub const MAX_CHARS: usize = MAX_CHARS;

    /// The policy of a service that has no name and no list of its own.
    pub fn new() -> Self {
        Self {
            service: Arc::default(),
            breached: None,
        }
    }

    /// Sets the service's names: its own, its company's, its domain's.
    #[must_use]
    pub fn service(mut self, names: &[&str]) -> Self {
        self.service = names.iter().flat_map(|name| context::words(name)).collect();
        self
    }

    /// Sets the list of passwords that are known from breaches.
    #[must_use]
    pub fn breached(mut self, filter: Arc<PasswordFilter>) -> Self {
        self.breached = Some(filter);
        self
    }

    /// Takes a new password, or says what is weak about it. It does no I/O.
    ///
    /// # Errors
    ///
    /// Returns [`Weakness`].
    pub fn check(
        &self,
        password: &str,
        context: &Context<'_>,
        factors: Factors,
    ) -> Result<NewPassword, Weakness> {
        let typed = Typed::new(password);
        let (min, max) = (factors.min_chars(), MAX_CHARS);
        // What did not fit is empty.
        if !(min..=max).contains(&typed.normal().chars().count()) {
            return Err(Weakness::Length { min, max });
        }
        let folded = fold(typed.normal());
        if pattern::is_plain(&folded, min) {
            return Err(Weakness::Pattern);
        }
        if most_used::is_one(&folded) {
            return Err(Weakness::Common);
        }
        if let Some(word) = context::fills(&folded, context, &self.service) {
            return Err(Weakness::Context { word });
        }
        let breached = |filter: &PasswordFilter| {
            filter.may_contain(typed.normal()) || filter.may_contain(password)
        };
        if self.breached.as_deref().is_some_and(breached) {
            return Err(Weakness::Breached);
        }
        Ok(NewPassword(typed))
    }
}

impl Default for PasswordPolicy {
    fn default() -> Self {
        Self::new()
    }
}

// === impl Factors ===

impl Factors {
    const fn min_chars(self) -> usize {
        match self {
            Self::PasswordAlone => PasswordPolicy::MIN_CHARS,
            Self::WithAnother => PasswordPolicy::MIN_CHARS_WITH_ANOTHER,
        }
    }
}

impl fmt::Debug for NewPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NewPassword(***)")
    }
}

/// As it is compared: in NFKC, without upper case.
fn fold(text: &str) -> zeroize::Zeroizing<String> {
    let lower = text.nfkc().flat_map(char::to_lowercase);
    zeroize::Zeroizing::new(lower.nfkc().collect())
}
