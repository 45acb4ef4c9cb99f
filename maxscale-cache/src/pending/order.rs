//! What changes, and how that is named and told.

use std::sync::Arc;

use crate::key;
use crate::message::{News, Subject};

/// A change that all processes have to hear of, and L2 first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    /// What is marked meanwhile: a key in L2, that of a value without its version.
    pub(crate) name: Arc<str>,
    pub(crate) target: Target,
}

/// What changes. Kinds, ids and tags are written as in keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Value {
        kind: Arc<str>,
        part: Arc<str>,
        /// Whether the old value may be served until there is a new one.
        soft: bool,
    },
    Tag {
        kind: Arc<str>,
        part: Arc<str>,
        /// Whether values of the kind may name it themselves.
        named: bool,
    },
    All {
        kind: Arc<str>,
    },
}

// === impl Order ===

impl Order {
    pub(crate) fn new(prefix: &str, target: Target) -> Self {
        let name = match &target {
            Target::Value { kind, part, .. } => format!("{prefix}:{kind}:{part}"),
            Target::Tag { kind, part, .. } => key::of_tag(prefix, kind, part),
            Target::All { kind } => key::of_all(prefix, kind),
        };
        Self {
            name: name.into(),
            target,
        }
    }

    /// Takes in an earlier order of the same name that nobody confirmed.
    pub(super) fn cover(&mut self, earlier: &Self) {
        if let (Target::Value { soft, .. }, Target::Value { soft: before, .. }) =
            (&mut self.target, &earlier.target)
        {
            *soft &= before;
        }
    }
}

// === impl Target ===

impl Target {
    /// What the others are told.
    pub(crate) fn news(&self) -> News<'_> {
        match self {
            Self::Value { kind, part, soft } => {
                let subject = Subject { kind, part };
                if *soft {
                    News::Stale(subject)
                } else {
                    News::Drop(subject)
                }
            }
            Self::Tag { kind, part, .. } => News::Tag(Subject { kind, part }),
            Self::All { kind } => News::All(kind),
        }
    }

    pub(super) fn of(news: News<'_>) -> Self {
        let value = |it: Subject<'_>, soft| Self::Value {
            kind: it.kind.into(),
            part: it.part.into(),
            soft,
        };
        match news {
            News::Drop(it) => value(it, false),
            News::Stale(it) => value(it, true),
            News::Tag(it) => Self::Tag {
                kind: it.kind.into(),
                part: it.part.into(),
                // It says nothing of that, and does no harm where it is not so.
                named: true,
            },
            News::All(kind) => Self::All { kind: kind.into() },
        }
    }
}
