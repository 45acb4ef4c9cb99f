//! One statement for both engines, and what comes back.

pub(crate) mod conn;
pub(crate) mod row;
mod statement;
mod tx;

pub use conn::Conn;
pub use row::{FromColumn, Row};
pub use statement::{Engine, Sql, Statement, Value, sql};
pub use tx::Tx;
