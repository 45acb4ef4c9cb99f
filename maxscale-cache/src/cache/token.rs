use std::fmt;
use std::str::FromStr;

use crate::remote::{Bumped, Fence};

/// Tells any process how new a value has to be, for whoever made a change.
///
/// It travels as text, in a cookie or header, and is no secret: a made-up one
/// costs a load at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token(Option<Fence>);

/// A text is no [`Token`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a token of a change")]
#[non_exhaustive]
pub struct TokenError;

// === impl Token ===

impl Token {
    /// Of a change that L2 confirmed for all these keys.
    pub(crate) fn of(done: Option<&[(String, Bumped)]>) -> Self {
        let fences = done.into_iter().flatten().map(|(_, bumped)| bumped.fence);
        Self(fences.min_by_key(|fence| fence.get()))
    }

    /// Whether a value stored under `fence` has the change.
    pub(crate) fn is_met_by(&self, fence: Option<Fence>) -> bool {
        // Without a number nobody can say so; nor if L2 lost its history since.
        self.0.zip(fence).is_some_and(|(least, fence)| {
            least.lineage() == fence.lineage() && fence.get() >= least.get()
        })
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(fence) => write!(f, "{:x}.{:x}", fence.lineage(), fence.get()),
            None => f.write_str("-"),
        }
    }
}

impl FromStr for Token {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        if text == "-" {
            return Ok(Self(None));
        }
        let number = |text| u64::from_str_radix(text, 16).map_err(|_| TokenError);
        let (lineage, fence) = text.split_once('.').ok_or(TokenError)?;
        Ok(Self(Some(Fence::of(number(lineage)?, number(fence)?))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_reads_as_written() {
        let known = Token(Some(Fence::of(0xfe, 10)));
        for token in [known, Token(None)] {
            assert_eq!(token.to_string().parse(), Ok(token));
        }
        for bad in ["", ".", "1", "1.", "x.1", "1.1.1"] {
            assert_eq!(bad.parse::<Token>(), Err(TokenError), "{bad}");
        }
    }

    #[test]
    fn only_a_fence_of_the_same_history_and_no_lower_meets_a_token() {
        let token = Token(Some(Fence::of(1, 10)));
        assert!(token.is_met_by(Some(Fence::of(1, 10))));
        assert!(!token.is_met_by(Some(Fence::of(1, 9))));
        assert!(!token.is_met_by(Some(Fence::of(2, 11))));
        assert!(!token.is_met_by(None));
        assert!(!Token(None).is_met_by(Some(Fence::of(1, 10))));
    }
}
