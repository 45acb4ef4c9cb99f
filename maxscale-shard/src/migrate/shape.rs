//! What the tables of a database look like, to be kept and compared.
//!
//! After each step what it changed is recorded beside the ledger. What was
//! changed by hand before is not: it stays different from what is recorded.

mod read;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};

pub(crate) use read::{RECORD, found, record, recorded};

/// A part of a table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Part {
    /// The table itself.
    Table,
    /// A column, with its type, whether it may be null, and its default.
    Column(String),
    /// A constraint, such as a key or a check. In SQLite it belongs to the table.
    Constraint(String),
    /// An index.
    Index(String),
}

/// What is different from what the migrations made.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// No migration made it.
    Added {
        /// What it is.
        found: String,
    },
    /// A migration made it, and it is gone.
    Dropped {
        /// What it was.
        recorded: String,
    },
    /// It is not what a migration made.
    Changed {
        /// What it was.
        recorded: String,
        /// What it is.
        found: String,
    },
    /// The migrations made something else on most nodes with this table.
    Unlike {
        /// What they made there; none if nothing.
        most: Option<String>,
        /// What they made here; none if nothing.
        recorded: Option<String>,
    },
    /// Nothing is recorded, as where no step ran since there is a record.
    Unrecorded,
}

/// Every part of every table, with its definition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shape(BTreeMap<Place, String>);

/// A table and a part of it.
pub(crate) type Place = (String, Part);

// === impl Part ===

impl Part {
    fn of(kind: &str, name: &str) -> Option<Self> {
        Some(match kind {
            "table" => Self::Table,
            "column" => Self::Column(name.to_owned()),
            "constraint" => Self::Constraint(name.to_owned()),
            "index" => Self::Index(name.to_owned()),
            _ => return None,
        })
    }

    /// What it is called; a table by its own name.
    fn named(&self) -> (&'static str, &str) {
        match self {
            Self::Table => ("table", ""),
            Self::Column(name) => ("column", name),
            Self::Constraint(name) => ("constraint", name),
            Self::Index(name) => ("index", name),
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, name) = self.named();
        match self {
            Self::Table => f.write_str(kind),
            _ => write!(f, "{kind} {name}"),
        }
    }
}

// === impl Change ===

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or = |text: &Option<String>| text.clone().unwrap_or_else(|| "nothing".to_owned());
        match self {
            Self::Added { found } => write!(f, "was added: {found}"),
            Self::Dropped { recorded } => write!(f, "was dropped: {recorded}"),
            Self::Changed { recorded, found } => write!(f, "was changed: {recorded} is {found}"),
            Self::Unlike { most, recorded } => {
                write!(f, "is {}, and {} on most nodes", or(recorded), or(most))
            }
            Self::Unrecorded => f.write_str("nothing is recorded to compare with"),
        }
    }
}

// === impl Shape ===

impl Shape {
    /// Takes up a part; its definition is told apart by its words alone.
    fn put(&mut self, kind: &str, table: &str, name: &str, definition: &str) {
        if let Some(part) = Part::of(kind, name) {
            let words: Vec<&str> = definition.split_whitespace().collect();
            self.0.insert((table.to_owned(), part), words.join(" "));
        }
    }

    pub(crate) fn get(&self, place: &Place) -> Option<&String> {
        self.0.get(place)
    }

    pub(crate) fn places(&self) -> impl Iterator<Item = &Place> {
        self.0.keys()
    }

    /// What this record says after steps that turned `before` into `after`. The
    /// index `made` is what it is by now, whenever that was made.
    pub(crate) fn after(&self, before: &Self, after: &Self, made: Option<&str>) -> Self {
        let made =
            |part: &Part| matches!((part, made), (Part::Index(name), Some(made)) if name == made);
        let places: BTreeSet<&Place> = (self.places().chain(before.places()))
            .chain(after.places())
            .collect();
        let stays = |place: &Place| before.get(place) == after.get(place) && !made(&place.1);
        let kept = places.into_iter().filter_map(|place| {
            let kept = if stays(place) {
                self.get(place)
            } else {
                after.get(place)
            };
            Some((place.clone(), kept?.clone()))
        });
        Self(kept.collect())
    }

    /// What is different in `found`.
    pub(crate) fn changes(&self, found: &Self) -> Vec<(Place, Change)> {
        let places: BTreeSet<&Place> = self.places().chain(found.places()).collect();
        let changed = places.into_iter().filter_map(|place| {
            let change = match (self.get(place).cloned(), found.get(place).cloned()) {
                (None, Some(found)) => Change::Added { found },
                (Some(recorded), None) => Change::Dropped { recorded },
                (Some(recorded), Some(found)) if recorded != found => {
                    Change::Changed { recorded, found }
                }
                _ => return None,
            };
            Some((place.clone(), change))
        });
        essential(changed.collect())
    }
}

/// Without the parts of a table that came or went as a whole, and without the
/// table where one of its parts says more.
pub(crate) fn essential(mut changes: Vec<(Place, Change)>) -> Vec<(Place, Change)> {
    let whole = |change: &Change| matches!(change, Change::Added { .. } | Change::Dropped { .. });
    let of =
        |changes: &[(Place, Change)], keep: &dyn Fn(&Part, &Change) -> bool| -> BTreeSet<String> {
            let kept = changes
                .iter()
                .filter(|((_, part), change)| keep(part, change));
            kept.map(|((table, _), _)| table.clone()).collect()
        };
    let wholes = of(&changes, &|part, change| {
        *part == Part::Table && whole(change)
    });
    let partly = of(&changes, &|part, _| *part != Part::Table);
    changes.retain(|((table, part), _)| match part {
        Part::Table => wholes.contains(table) || !partly.contains(table),
        _ => !wholes.contains(table),
    });
    changes
}

/// A line for each part. Names have no tabs or lines of their own.
impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for ((table, part), definition) in &self.0 {
            let (kind, name) = part.named();
            writeln!(f, "{kind}\t{table}\t{name}\t{definition}")?;
        }
        Ok(())
    }
}

impl Shape {
    /// Reads what [`Display`](fmt::Display) wrote.
    fn parse(text: &str) -> Self {
        let mut shape = Self::default();
        for line in text.lines() {
            let mut fields = line.splitn(4, '\t');
            let mut next = || fields.next().unwrap_or_default();
            let (kind, table, name) = (next(), next(), next());
            shape.put(kind, table, name, next());
        }
        shape
    }

    fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a text cannot fail.
        let _ = write!(text, "{self}");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(lines: &[&str]) -> Shape {
        Shape::parse(&lines.join("\n").replace(' ', "\t"))
    }

    #[test]
    fn text_is_read_as_it_was_written() {
        let shape = shape(&["table t  r", "column t n bigint", "index t i on(n)"]);
        assert_eq!(shape.places().count(), 3);
        assert_eq!(Shape::parse(&shape.text()), shape);
    }

    #[test]
    fn what_was_changed_by_hand_before_a_step_is_not_recorded_with_it() {
        let recorded = shape(&["column t a int"]);
        let by_hand = shape(&["column t a int", "column t b int"]);
        let stepped = shape(&["column t b int", "column t c int"]);
        let next = recorded.after(&by_hand, &stepped, None);
        assert_eq!(next, shape(&["column t c int"]));
        let drift = next.changes(&stepped);
        assert_eq!(drift[0].0.1, Part::Column("b".to_owned()));
        assert_eq!(drift.len(), 1);
    }

    #[test]
    fn index_of_a_step_is_recorded_though_it_was_there_before() {
        let there = shape(&["index t i on(n)"]);
        let next = Shape::default().after(&there, &there, Some("i"));
        assert_eq!(next, there);
    }

    #[test]
    fn table_that_went_is_one_change_and_a_column_says_more_than_its_table() {
        let both = shape(&["table t  r", "column t a int"]);
        let changes = both.changes(&Shape::default());
        assert_eq!(changes.len(), 1);
        assert_eq!(changes[0].0.1, Part::Table);
        let changes = both.changes(&shape(&["table t  s", "column t a text"]));
        assert_eq!(changes.len(), 1);
        assert_eq!(changes[0].0.1, Part::Column("a".to_owned()));
    }
}
