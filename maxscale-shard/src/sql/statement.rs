use std::sync::Arc;

use uuid::Uuid;

/// A kind of database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(
    clippy::exhaustive_enums,
    reason = "a third engine must be thought of everywhere"
)]
pub enum Engine {
    /// PostgreSQL, or what speaks like it.
    Postgres,
    /// A SQLite file.
    Sqlite,
}

/// A statement's text; the same for both engines wherever both accept it.
///
/// Parameters are `$1`, `$2` and so on.
#[derive(Clone, Copy, Debug)]
pub struct Sql {
    postgres: &'static str,
    sqlite: &'static str,
}

/// A statement with its parameters, ready to run.
#[derive(Clone, Debug)]
#[must_use]
pub struct Statement {
    text: Text,
    pub(crate) values: Vec<Value>,
}

#[derive(Clone, Debug)]
enum Text {
    Written(Sql),
    /// Put together for one engine.
    Composed(Arc<str>),
}

/// A parameter. Times are `i64` microseconds UTC.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "the bind types are a fixed set")]
pub enum Value {
    /// `uuid`, BLOB(16) in SQLite.
    Uuid(Option<Uuid>),
    /// `bigint`, and fits `integer` columns.
    I64(Option<i64>),
    /// `double precision`. SQLite keeps no sign of zero, and NaN as null.
    F64(Option<f64>),
    /// `boolean`, 0 or 1 in SQLite.
    Bool(Option<bool>),
    /// `text`.
    Text(Option<String>),
    /// `bytea`, BLOB in SQLite.
    Bytes(Option<Vec<u8>>),
    /// `integer[]`, the text of a JSON array in SQLite.
    Ints(Arc<[i32]>),
}

/// Starts a statement whose text serves both engines.
pub fn sql(text: &'static str) -> Statement {
    Sql::both(text).statement()
}

// === impl Sql ===

impl Sql {
    /// A text that both engines accept.
    pub const fn both(text: &'static str) -> Self {
        Self {
            postgres: text,
            sqlite: text,
        }
    }

    /// A text for each engine, with the same parameters in the same order.
    pub const fn each(postgres: &'static str, sqlite: &'static str) -> Self {
        Self { postgres, sqlite }
    }

    /// Starts a statement with this text.
    pub const fn statement(self) -> Statement {
        Statement {
            text: Text::Written(self),
            values: Vec::new(),
        }
    }

    /// The text for `engine`.
    pub const fn text(&self, engine: Engine) -> &'static str {
        match engine {
            Engine::Postgres => self.postgres,
            Engine::Sqlite => self.sqlite,
        }
    }
}

// === impl Statement ===

impl Statement {
    /// Adds the next parameter.
    pub fn bind(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self
    }

    /// A statement whose text is put together, for one engine.
    pub(crate) fn composed(text: String, values: Vec<Value>) -> Self {
        Self {
            text: Text::Composed(text.into()),
            values,
        }
    }

    /// The text for `engine`.
    pub fn text(&self, engine: Engine) -> &str {
        match &self.text {
            Text::Written(text) => text.text(engine),
            Text::Composed(text) => text,
        }
    }

    /// The text for `engine`, as the driver takes it.
    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    pub(crate) fn driven(&self, engine: Engine) -> sqlx::SqlStr {
        use sqlx::{AssertSqlSafe, SqlSafeStr};

        match &self.text {
            Text::Written(text) => text.text(engine).into_sql_str(),
            // Put together by this crate, with values as parameters.
            Text::Composed(text) => AssertSqlSafe(text.clone()).into_sql_str(),
        }
    }
}

// === impl Value ===

macro_rules! value_from {
    ($($from:ty => $variant:ident),+ $(,)?) => {$(
        impl From<$from> for Value {
            fn from(value: $from) -> Self {
                Self::$variant(Some(value.into()))
            }
        }

        impl From<Option<$from>> for Value {
            fn from(value: Option<$from>) -> Self {
                Self::$variant(value.map(Into::into))
            }
        }
    )+};
}

value_from! {
    Uuid => Uuid,
    maxscale_core::id::Id => Uuid,
    i64 => I64,
    i32 => I64,
    u32 => I64,
    f64 => F64,
    bool => Bool,
    String => Text,
    &str => Text,
    Vec<u8> => Bytes,
    &[u8] => Bytes,
}

impl From<maxscale_core::fact::VirtualShard> for Value {
    fn from(shard: maxscale_core::fact::VirtualShard) -> Self {
        Self::I64(Some(shard.as_i64()))
    }
}

/// No shard is NULL, which no row's `shard_id` equals.
impl From<Option<maxscale_core::fact::VirtualShard>> for Value {
    fn from(shard: Option<maxscale_core::fact::VirtualShard>) -> Self {
        Self::I64(shard.map(maxscale_core::fact::VirtualShard::as_i64))
    }
}

impl From<maxscale_core::clock::Timestamp> for Value {
    fn from(time: maxscale_core::clock::Timestamp) -> Self {
        Self::I64(Some(time.as_micros()))
    }
}
