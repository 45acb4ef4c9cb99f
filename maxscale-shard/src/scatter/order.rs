use std::fmt::Write as _;

use uuid::Uuid;

use crate::error::ShardError;
use crate::sql::{Engine, Row, Value};

/// An order that is the same in every database, so that rows of many can be merged.
///
/// The crate writes the `ORDER BY` itself. Text is compared byte by byte
/// (`COLLATE "C"`, in SQLite `BINARY`), whatever collation its column has: two
/// servers need not agree on any other. There is no order by `double precision`,
/// as NaN and the two zeros are not the same everywhere, nor by anything else
/// that is not a [`KeyType`]. An index serves it if it is on the same columns in
/// the same directions, text with the same collation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderBy(Vec<OrderKey>);

/// A column of an [`OrderBy`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct OrderKey {
    column: String,
    of: KeyType,
    descending: bool,
    nulls: Nulls,
}

/// The types whose order is the same in PostgreSQL, in SQLite and here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeyType {
    /// `bigint` or `integer`, and with that times.
    I64,
    /// `uuid`, BLOB(16) in SQLite.
    Uuid,
    /// `boolean`, false before true.
    Bool,
    /// `text`, byte by byte.
    Text,
    /// `bytea`, BLOB in SQLite.
    Bytes,
}

/// What cannot be an order.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OrderError {
    /// No column, or more than [`OrderBy::MOST`].
    #[error("an order has 1 to {most} columns, not {0}", most = OrderBy::MOST)]
    Count(usize),

    /// A name that is no plain column: a collation, a direction or an
    /// expression cannot be part of it.
    #[error("{0:?} is no name of a column of the statement: 1 to 63 of a-z, 0-9 and _")]
    Name(String),

    /// A column that decides nothing the second time.
    #[error("column {0} is in the order twice")]
    Twice(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Nulls {
    Never,
    First,
    Last,
}

// === impl OrderKey ===

impl OrderKey {
    /// By `column`, the least first. It is never null, unless said otherwise.
    pub fn asc(column: impl Into<String>, of: KeyType) -> Self {
        Self {
            column: column.into(),
            of,
            descending: false,
            nulls: Nulls::Never,
        }
    }

    /// By `column`, the greatest first. It is never null, unless said otherwise.
    pub fn desc(column: impl Into<String>, of: KeyType) -> Self {
        let descending = true;
        Self {
            descending,
            ..Self::asc(column, of)
        }
    }

    /// Nulls come before everything else, whatever the direction.
    pub fn nulls_first(self) -> Self {
        let nulls = Nulls::First;
        Self { nulls, ..self }
    }

    /// Nulls come after everything else, whatever the direction.
    pub fn nulls_last(self) -> Self {
        let nulls = Nulls::Last;
        Self { nulls, ..self }
    }

    /// The column, as a part of an expression.
    fn compared(&self, engine: Engine) -> String {
        let column = &self.column;
        match (self.of, engine) {
            (KeyType::Text, Engine::Postgres) => format!(r#"leg."{column}"::text COLLATE "C""#),
            (KeyType::Text, Engine::Sqlite) => format!(r#"leg."{column}" COLLATE BINARY"#),
            _ => format!(r#"leg."{column}""#),
        }
    }
}

// === impl OrderBy ===

impl OrderBy {
    /// The most columns of an order.
    pub const MOST: usize = 16;

    /// By the first of `keys`, rows alike in that by the second, and so on. The
    /// last ones make it unique (an id), or rows alike in all come in no
    /// particular order.
    ///
    /// # Errors
    ///
    /// Returns [`OrderError`].
    pub fn new(keys: impl IntoIterator<Item = OrderKey>) -> Result<Self, OrderError> {
        let keys: Vec<OrderKey> = keys.into_iter().collect();
        if !(1..=Self::MOST).contains(&keys.len()) {
            return Err(OrderError::Count(keys.len()));
        }
        for (at, key) in keys.iter().enumerate() {
            check_name(&key.column)?;
            if keys[..at].iter().any(|other| other.column == key.column) {
                return Err(OrderError::Twice(key.column.clone()));
            }
        }
        Ok(Self(keys))
    }

    /// What follows `ORDER BY`.
    pub(super) fn clause(&self, engine: Engine) -> String {
        let mut text = String::new();
        for key in &self.0 {
            let comma = if text.is_empty() { "" } else { ", " };
            let direction = if key.descending { " DESC" } else { "" };
            let nulls = match key.nulls {
                // Said where it changes nothing, it would keep an index from serving.
                Nulls::Never => "",
                Nulls::First => " NULLS FIRST",
                Nulls::Last => " NULLS LAST",
            };
            // Writing to a text cannot fail.
            let _ = write!(text, "{comma}{}{direction}{nulls}", key.compared(engine));
        }
        text
    }

    /// The condition that a row comes after the one with these `values`, which
    /// are parameters: `bind` gives the name of one.
    pub(super) fn after(
        &self,
        engine: Engine,
        values: &[Value],
        mut bind: impl FnMut(Value) -> String,
    ) -> String {
        let same_way =
            |key: &OrderKey| key.nulls == Nulls::Never && key.descending == self.0[0].descending;
        if self.0.iter().all(same_way) {
            // The form that indexes serve best.
            let columns: Vec<String> = self.0.iter().map(|key| key.compared(engine)).collect();
            let bound: Vec<String> = values.iter().cloned().map(bind).collect();
            let than = if self.0[0].descending { "<" } else { ">" };
            return format!("({}) {than} ({})", columns.join(", "), bound.join(", "));
        }
        let mut ways = Vec::new();
        let mut alike = String::new();
        for (key, value) in self.0.iter().zip(values) {
            let column = key.compared(engine);
            let (than, same) = if is_null(value) {
                let than = (key.nulls == Nulls::First).then(|| format!("{column} IS NOT NULL"));
                (than, format!("{column} IS NULL"))
            } else {
                let bound = bind(value.clone());
                let than = if key.descending { "<" } else { ">" };
                let mut than = format!("{column} {than} {bound}");
                if key.nulls == Nulls::Last {
                    than = format!("({than} OR {column} IS NULL)");
                }
                (Some(than), format!("{column} = {bound}"))
            };
            ways.extend(than.map(|than| format!("({alike}{than})")));
            let _ = write!(alike, "{same} AND ");
        }
        if ways.is_empty() {
            // The row whose columns are all null comes last of all.
            return "1 = 0".to_owned();
        }
        format!("({})", ways.join(" OR "))
    }

    /// The values of a row that decide its place.
    pub(super) fn values(&self, row: &Row) -> Result<Vec<Value>, ShardError> {
        self.0.iter().map(|key| read(key, row)).collect()
    }

    /// Bytes whose order is that of the rows with these values.
    pub(super) fn rank(&self, values: &[Value]) -> Vec<u8> {
        let mut rank = Vec::with_capacity(self.0.len() * 17);
        for (key, value) in self.0.iter().zip(values) {
            match (key.nulls, is_null(value)) {
                (Nulls::Never, _) => {}
                (Nulls::First, null) => rank.push(u8::from(!null)),
                (Nulls::Last, null) => rank.push(u8::from(null)),
            }
            let start = rank.len();
            write(value, &mut rank);
            if key.descending {
                rank[start..].iter_mut().for_each(|byte| *byte = !*byte);
            }
        }
        rank
    }

    /// Whether these can be the values of a row: as many, and of the same types.
    #[cfg(feature = "cursor")]
    pub(super) fn suits(&self, values: &[Value]) -> bool {
        let suit = |(key, value): (&OrderKey, &Value)| {
            let of = matches!(
                (key.of, value),
                (KeyType::I64, Value::I64(_))
                    | (KeyType::Uuid, Value::Uuid(_))
                    | (KeyType::Bool, Value::Bool(_))
                    | (KeyType::Text, Value::Text(_))
                    | (KeyType::Bytes, Value::Bytes(_))
            );
            of && (key.nulls != Nulls::Never || !is_null(value))
        };
        self.0.len() == values.len() && self.0.iter().zip(values).all(suit)
    }

    /// A text that no other order has, the same in every version.
    #[cfg(feature = "cursor")]
    pub(super) fn identity(&self) -> String {
        let mut text = String::new();
        for key in &self.0 {
            let of = match key.of {
                KeyType::I64 => "i64",
                KeyType::Uuid => "uuid",
                KeyType::Bool => "bool",
                KeyType::Text => "text",
                KeyType::Bytes => "bytes",
            };
            let direction = if key.descending { "desc" } else { "asc" };
            let nulls = match key.nulls {
                Nulls::Never => "never",
                Nulls::First => "first",
                Nulls::Last => "last",
            };
            // Writing to a text cannot fail.
            let _ = write!(text, "{} {of} {direction} {nulls};", key.column);
        }
        text
    }
}

/// Checks that `column` can stand in quotes as it is.
pub(super) fn check_name(column: &str) -> Result<(), OrderError> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    if (1..=63).contains(&column.len()) && column.bytes().all(plain) {
        Ok(())
    } else {
        Err(OrderError::Name(column.to_owned()))
    }
}

fn read(key: &OrderKey, row: &Row) -> Result<Value, ShardError> {
    let column = &*key.column;
    let value = match key.of {
        KeyType::I64 => Value::I64(row.get(column)?),
        KeyType::Uuid => Value::Uuid(row.get(column)?),
        KeyType::Bool => Value::Bool(row.get(column)?),
        KeyType::Text => Value::Text(row.get(column)?),
        KeyType::Bytes => Value::Bytes(row.get(column)?),
    };
    if key.nulls == Nulls::Never && is_null(&value) {
        return Err(ShardError::Column {
            column: column.to_owned(),
            source: "null in an order that says it is never null".into(),
        });
    }
    Ok(value)
}

pub(super) const fn is_null(value: &Value) -> bool {
    matches!(
        value,
        Value::Uuid(None)
            | Value::I64(None)
            | Value::F64(None)
            | Value::Bool(None)
            | Value::Text(None)
            | Value::Bytes(None)
    )
}

fn write(value: &Value, rank: &mut Vec<u8>) {
    match value {
        Value::I64(Some(number)) => {
            let from_zero = number.cast_unsigned() ^ (1 << 63);
            rank.extend(from_zero.to_be_bytes());
        }
        Value::Uuid(Some(uuid)) => rank.extend(Uuid::as_bytes(uuid)),
        Value::Bool(Some(bool)) => rank.push(u8::from(*bool)),
        Value::Text(Some(text)) => write_bytes(text.as_bytes(), rank),
        Value::Bytes(Some(bytes)) => write_bytes(bytes, rank),
        // Nulls are told by the byte before; the others are in no order.
        _ => {}
    }
}

/// So that what begins with something else comes after it, and what follows
/// does not count.
fn write_bytes(bytes: &[u8], rank: &mut Vec<u8>) {
    for byte in bytes {
        rank.push(*byte);
        if *byte == 0 {
            rank.push(0xff);
        }
    }
    rank.extend([0, 0]);
}

#[cfg(test)]
mod tests;
