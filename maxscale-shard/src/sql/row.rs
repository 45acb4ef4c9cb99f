use std::convert::Infallible;

use maxscale_core::BoxError;
use maxscale_core::id::Id;
use uuid::Uuid;

use crate::error::ShardError;

/// A row that either engine gave.
#[derive(Debug)]
pub struct Row(pub(crate) RawRow);

pub(crate) enum RawRow {
    #[cfg(feature = "postgres")]
    Postgres(sqlx::postgres::PgRow),
    #[cfg(feature = "sqlite")]
    Sqlite(sqlx::sqlite::SqliteRow),
    /// Keeps matches exhaustive without any engine.
    #[allow(
        dead_code,
        reason = "no value exists; with an engine no code makes one"
    )]
    Never(Infallible),
}

/// A type that a column can be read as.
pub trait FromColumn: Sized + sealed::Read {}

// === impl Row ===

impl Row {
    /// Reads a column by its name.
    ///
    /// # Errors
    ///
    /// Returns [`ShardError::Column`] when the column is absent, of another
    /// type, or null where `T` is not an `Option`.
    pub fn get<T: FromColumn>(&self, column: &str) -> Result<T, ShardError> {
        T::read(self, column).map_err(|source| ShardError::Column {
            column: column.to_owned(),
            source,
        })
    }
}

impl std::fmt::Debug for RawRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Values may be personal; their types are enough to debug with.
        f.write_str("..")
    }
}

mod sealed {
    use super::{BoxError, Row};

    #[expect(unnameable_types, reason = "seals `FromColumn`")]
    pub trait Read {
        fn read(row: &Row, column: &str) -> Result<Self, BoxError>
        where
            Self: Sized;
    }
}

macro_rules! from_column {
    ($($type:ty),+) => {$(
        impl FromColumn for Option<$type> {}
        impl sealed::Read for Option<$type> {
            fn read(row: &Row, column: &str) -> Result<Self, BoxError> {
                match &row.0 {
                    #[cfg(feature = "postgres")]
                    RawRow::Postgres(row) => Ok(sqlx::Row::try_get(row, column)?),
                    #[cfg(feature = "sqlite")]
                    RawRow::Sqlite(row) => Ok(sqlx::Row::try_get(row, column)?),
                    RawRow::Never(never) => {
                        let _ = column;
                        crate::engine::never(never)
                    }
                }
            }
        }
    )+};
}

// SQLite's driver reads null as "", 0 or false, so that every bare type is
// read as an option first.
macro_rules! never_null {
    ($($type:ty),+) => {$(
        impl FromColumn for $type {}
        impl sealed::Read for $type {
            fn read(row: &Row, column: &str) -> Result<Self, BoxError> {
                let value = <Option<Self> as sealed::Read>::read(row, column)?;
                value.ok_or_else(|| "unexpected null".into())
            }
        }
    )+};
}

from_column!(Uuid, f64, bool, String, Vec<u8>);
never_null!(Uuid, Id, i64, f64, bool, String, Vec<u8>);

impl FromColumn for Option<Id> {}
impl sealed::Read for Option<Id> {
    fn read(row: &Row, column: &str) -> Result<Self, BoxError> {
        let uuid = <Option<Uuid> as sealed::Read>::read(row, column)?;
        Ok(uuid.map(Id::from_uuid).transpose()?)
    }
}

impl FromColumn for Option<i64> {}
impl sealed::Read for Option<i64> {
    fn read(row: &Row, column: &str) -> Result<Self, BoxError> {
        match &row.0 {
            #[cfg(feature = "postgres")]
            RawRow::Postgres(row) => {
                use sqlx::{Column, Row as _, TypeInfo};
                // `integer` columns are narrower than the one integer we bind and read.
                let narrow = row.try_column(column)?.type_info().name() == "INT4";
                Ok(if narrow {
                    row.try_get::<Option<i32>, _>(column)?.map(i64::from)
                } else {
                    row.try_get(column)?
                })
            }
            #[cfg(feature = "sqlite")]
            RawRow::Sqlite(row) => Ok(sqlx::Row::try_get(row, column)?),
            RawRow::Never(never) => {
                let _ = column;
                crate::engine::never(never)
            }
        }
    }
}
