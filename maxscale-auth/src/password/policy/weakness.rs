use std::fmt;

/// Why a password is not taken; its text says what to do.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Weakness {
    /// It has too few characters, or too many.
    #[error(
        "use {min} to {max} characters; a few words that have nothing to do with each other are easy to keep in mind"
    )]
    Length {
        /// The fewest characters.
        min: usize,
        /// The most characters.
        max: usize,
    },

    /// It is one of the most common passwords.
    #[error("many people use this password, and it is tried first; use another one")]
    Common,

    /// It is in the list of passwords that are known from breaches.
    #[error(
        "this password is in a list of stolen ones; use another one, here and where you used it"
    )]
    Breached,

    /// It is hardly more than a name that is known of the account or the service.
    #[error(
        "this password is hardly more than a name that others know; add words that have nothing to do with it"
    )]
    Context {
        /// The name, as it is compared. It is part of the password.
        word: Box<str>,
    },

    /// It is a short piece repeated, or a run of neighbours.
    #[error(
        "this password repeats itself or follows the alphabet or the keyboard; use words instead"
    )]
    Pattern,
}

/// Without the word, which is part of a password.
impl fmt::Debug for Weakness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { min, max } => {
                let mut shown = f.debug_struct("Length");
                shown.field("min", min).field("max", max).finish()
            }
            Self::Common => f.write_str("Common"),
            Self::Breached => f.write_str("Breached"),
            Self::Context { .. } => f.write_str("Context"),
            Self::Pattern => f.write_str("Pattern"),
        }
    }
}

impl Weakness {
    /// A stable name for programs, of a closed set.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Length { .. } => "password_length",
            Self::Common => "password_common",
            Self::Breached => "password_breached",
            Self::Context { .. } => "password_context",
            Self::Pattern => "password_pattern",
        }
    }
}
