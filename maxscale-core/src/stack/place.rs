use std::fmt;

use crate::refusal::{Class, Classify};

/// Where a layer stands, from the outermost to the innermost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    Trace,
    Edge,
    Deadline,
    Peer,
    Shed,
    Guard,
    Session,
    Caller,
    Route,
}

/// The outermost and the innermost place of a stack that are filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Places(Option<(Place, Place)>);

/// The innermost place that stacks further out have filled: a fact of their requests.
#[derive(Clone, Copy, Debug)]
pub(super) struct Passed(Place);

/// A stack stands inside of another, and should stand around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "layers are in the wrong order: `{outer}` stands outside of `{inner}`; \
     of the layers that are added to a router, the last is the outermost"
)]
pub(super) struct WrongOrder {
    outer: Place,
    inner: Place,
}

// === impl Places ===

impl Places {
    pub(super) const NONE: Self = Self(None);

    /// These, and `place`.
    pub(super) fn and(self, place: Place) -> Self {
        let (first, last) = self.0.unwrap_or((place, place));
        Self(Some((first.min(place), last.max(place))))
    }

    /// What a request has passed within this stack that had passed `outer` before.
    pub(super) fn after(self, outer: Option<Passed>) -> Result<Option<Passed>, WrongOrder> {
        let Some((first, last)) = self.0 else {
            return Ok(outer);
        };
        match outer {
            Some(Passed(outer)) if outer > first => Err(WrongOrder {
                outer,
                inner: first,
            }),
            _ => Ok(Some(Passed(last))),
        }
    }
}

// === impl Place ===

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Trace => "trace",
            Self::Edge => "edge",
            Self::Deadline => "deadline",
            Self::Peer => "peer",
            Self::Shed => "shed",
            Self::Guard => "guard",
            Self::Session => "session",
            Self::Caller => "caller",
            Self::Route => "route",
        })
    }
}

// === impl WrongOrder ===

impl Classify for WrongOrder {
    fn class(&self) -> Class {
        Class::Internal
    }

    // Whoever builds the stack reads this first.
    fn detail(&self) -> Option<String> {
        Some(self.to_string())
    }
}
